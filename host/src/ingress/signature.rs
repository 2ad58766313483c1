//! Whether a message was signed by who has the source's secret: Standard Webhooks, and as GitHub signs.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use hyper::{HeaderMap, header::HeaderName};
use sha2::Sha256;

use crate::{contract::manifest::webhook::Scheme, model::clock::UnixMs};

pub(super) const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const HUB_SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature-256");
/// Refusals are logged at most once in so many milliseconds: who sends rubbish must not fill the log.
const LOG_INTERVAL_MS: u64 = 10_000;

/// Why a message is not believed. For this node's log only; the sender is told nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    #[error("the setting that holds the secret is missing, or no text that the scheme knows")]
    NoSecret,
    #[error("a header of the signature is missing, doubled, or unreadable")]
    Header,
    #[error("its time is too far from this node's")]
    Time,
    #[error("no signature is right")]
    Wrong,
}

/// Checks the signature. `secret` is the JSON text of the setting.
pub(super) fn verify(
    scheme: &Scheme,
    secret: Option<&str>,
    headers: &HeaderMap,
    body: &[u8],
    now_ms: UnixMs,
) -> Result<(), Denied> {
    let secret = secret.and_then(|json| serde_json::from_str::<String>(json).ok());
    let secret = secret.filter(|secret| !secret.is_empty()).ok_or(Denied::NoSecret)?;
    match scheme {
        Scheme::StandardWebhooks { tolerance } => {
            standard_webhooks(&secret, *tolerance, headers, body, now_ms)
        }
        Scheme::Github => github(&secret, headers, body),
    }
}

fn standard_webhooks(
    secret: &str,
    tolerance: Duration,
    headers: &HeaderMap,
    body: &[u8],
    now_ms: UnixMs,
) -> Result<(), Denied> {
    let secret = secret.strip_prefix("whsec_").unwrap_or(secret);
    let secret = STANDARD.decode(secret).map_err(|_| Denied::NoSecret)?;
    let id = the_one(headers, &WEBHOOK_ID)?;
    let timestamp = the_one(headers, &WEBHOOK_TIMESTAMP)?;
    let signatures = the_one(headers, &WEBHOOK_SIGNATURE)?;
    // With a sign it would be another text for the same time.
    let digits = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: u64 = timestamp.parse().ok().filter(|_| digits).ok_or(Denied::Header)?;
    let away = Duration::from_millis(now_ms.abs_diff(seconds.saturating_mul(1000)));
    if away > tolerance {
        return Err(Denied::Time);
    }
    let mac = mac(&secret, [id.as_bytes(), b".", timestamp.as_bytes(), b".", body]);
    let is_right = |signature: &str| {
        let signature = signature.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok());
        // Compares in constant time.
        signature.is_some_and(|bytes| mac.clone().verify_slice(&bytes).is_ok())
    };
    if signatures.split(' ').any(is_right) { Ok(()) } else { Err(Denied::Wrong) }
}

fn github(secret: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), Denied> {
    let signature = the_one(headers, &HUB_SIGNATURE)?;
    let bytes = signature.strip_prefix("sha256=").and_then(from_hex).ok_or(Denied::Header)?;
    mac(secret.as_bytes(), [body]).verify_slice(&bytes).map_err(|_| Denied::Wrong)
}

fn mac<const N: usize>(secret: &[u8], parts: [&[u8]; N]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac
}

fn the_one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Denied> {
    let mut values = headers.get_all(name).iter();
    match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
        (Some(text), None) if !text.is_empty() => Ok(text),
        _ => Err(Denied::Header),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// Says when a refusal may be logged.
#[derive(Debug, Default)]
pub(super) struct SeldomLog {
    /// When the last one was, in Unix ms.
    last_ms: AtomicU64,
    /// Refusals that were not logged since.
    unsaid: AtomicU64,
}

impl SeldomLog {
    /// How many were left out since the last time, if it may be logged now.
    pub(super) fn may(&self, now_ms: UnixMs) -> Option<u64> {
        let last_ms = self.last_ms.load(Ordering::Relaxed);
        // The distance, so that a clock that was set back does not silence it.
        let is_time = now_ms.abs_diff(last_ms) >= LOG_INTERVAL_MS;
        let order = Ordering::Relaxed;
        if is_time && self.last_ms.compare_exchange(last_ms, now_ms, order, order).is_ok() {
            return Some(self.unsaid.swap(0, order));
        }
        self.unsaid.fetch_add(1, order);
        None
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    /// From the Standard Webhooks specification's reference libraries.
    const SECRET: &str = r#""whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw""#;
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIME: &str = "1614265330";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const NOW: UnixMs = 1_614_265_330_000;
    const STANDARD_WEBHOOKS: Scheme =
        Scheme::StandardWebhooks { tolerance: Duration::from_mins(5) };

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn signed(id: &str, time: &str, signature: &str) -> HeaderMap {
        let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        let values = [id, time, signature];
        headers(&names.into_iter().zip(values).collect::<Vec<_>>())
    }

    fn standard(headers: &HeaderMap, body: &[u8], now_ms: UnixMs) -> Result<(), Denied> {
        verify(&STANDARD_WEBHOOKS, Some(SECRET), headers, body, now_ms)
    }

    #[test]
    fn a_standard_webhook_is_believed_if_one_of_its_signatures_is_right() {
        assert_eq!(standard(&signed(ID, TIME, SIGNATURE), BODY, NOW), Ok(()));
        let several = format!("v1a,xyz v1,AAAA v2,{} {SIGNATURE}", &SIGNATURE[3..]);
        assert_eq!(standard(&signed(ID, TIME, &several), BODY, NOW), Ok(()));
        let bare = SECRET.replace("whsec_", "");
        let headers = signed(ID, TIME, SIGNATURE);
        assert_eq!(verify(&STANDARD_WEBHOOKS, Some(&bare), &headers, BODY, NOW), Ok(()));
    }

    #[test]
    fn a_standard_webhook_is_not_believed_if_anything_was_changed() {
        let right = signed(ID, TIME, SIGNATURE);
        assert_eq!(standard(&right, b"{}", NOW), Err(Denied::Wrong));
        assert_eq!(standard(&signed("msg_2", TIME, SIGNATURE), BODY, NOW), Err(Denied::Wrong));
        assert_eq!(standard(&signed(ID, "1614265331", SIGNATURE), BODY, NOW), Err(Denied::Wrong));
        for wrong in
            ["v1,AAAA", "v1,!", "v1", "g0hM", "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="]
        {
            assert_eq!(
                standard(&signed(ID, TIME, wrong), BODY, NOW),
                Err(Denied::Wrong),
                "{wrong}"
            );
        }
        let other = Some(r#""whsec_AAAA""#);
        assert_eq!(verify(&STANDARD_WEBHOOKS, other, &right, BODY, NOW), Err(Denied::Wrong));
    }

    #[test]
    fn a_standard_webhook_of_another_time_is_not_believed() {
        let headers = signed(ID, TIME, SIGNATURE);
        for (now_ms, believed) in [
            (NOW + 300_000, Ok(())),
            (NOW - 300_000, Ok(())),
            (NOW + 300_001, Err(Denied::Time)),
            (NOW - 300_001, Err(Denied::Time)),
            (0, Err(Denied::Time)),
        ] {
            assert_eq!(standard(&headers, BODY, now_ms), believed, "{now_ms}");
        }
        for bad in ["", "+1614265330", "-1", "1e9", "99999999999999999999", " 1614265330"] {
            assert_eq!(
                standard(&signed(ID, bad, SIGNATURE), BODY, NOW),
                Err(Denied::Header),
                "{bad}"
            );
        }
        let far = signed(ID, "18446744073709551615", SIGNATURE);
        assert_eq!(standard(&far, BODY, NOW), Err(Denied::Time));
    }

    #[test]
    fn a_standard_webhook_without_a_header_or_with_two_is_not_believed() {
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let mut headers = signed(ID, TIME, SIGNATURE);
            headers.append(name, HeaderValue::from_static("x"));
            assert_eq!(standard(&headers, BODY, NOW), Err(Denied::Header));
            headers.insert(name, HeaderValue::from_bytes(b"\xff").unwrap());
            assert_eq!(standard(&headers, BODY, NOW), Err(Denied::Header));
            headers.remove(name);
            assert_eq!(standard(&headers, BODY, NOW), Err(Denied::Header));
        }
    }

    #[test]
    fn as_github_signs() {
        // From GitHub's documentation of validating deliveries.
        let secret = Some(r#""It's a Secret to Everybody""#);
        let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let verify = |secret, signature: &str, body: &[u8]| {
            let headers = headers(&[("x-hub-signature-256", signature)]);
            verify(&Scheme::Github, secret, &headers, body, NOW)
        };
        assert_eq!(verify(secret, right, b"Hello, World!"), Ok(()));
        assert_eq!(
            verify(secret, &right.to_uppercase().replace("SHA", "sha"), b"Hello, World!"),
            Ok(())
        );
        assert_eq!(verify(secret, right, b"Hello, World"), Err(Denied::Wrong));
        assert_eq!(verify(Some("\"x\""), right, b"Hello, World!"), Err(Denied::Wrong));
        assert_eq!(verify(secret, "sha256=", b"Hello, World!"), Err(Denied::Wrong));
        for bad in ["sha1=00", "sha256=0", "sha256=0g", &right[7..], ""] {
            assert_eq!(verify(secret, bad, b"Hello, World!"), Err(Denied::Header), "{bad}");
        }
    }

    #[test]
    fn without_a_secret_nobody_is_believed() {
        let headers = signed(ID, TIME, SIGNATURE);
        for secret in [None, Some("\"\""), Some("7"), Some("\"whsec_?\"")] {
            let denied = verify(&STANDARD_WEBHOOKS, secret, &headers, BODY, NOW);
            assert_eq!(denied, Err(Denied::NoSecret), "{secret:?}");
        }
        assert_eq!(verify(&Scheme::Github, None, &headers, BODY, NOW), Err(Denied::NoSecret));
    }

    #[test]
    fn refusals_are_logged_seldom() {
        let log = SeldomLog::default();
        assert_eq!(log.may(NOW), Some(0));
        assert_eq!(log.may(NOW + 1), None);
        assert_eq!(log.may(NOW + LOG_INTERVAL_MS - 1), None);
        assert_eq!(log.may(NOW + LOG_INTERVAL_MS), Some(2));
        assert_eq!(log.may(0), Some(0), "the clock was set back");
    }
}
