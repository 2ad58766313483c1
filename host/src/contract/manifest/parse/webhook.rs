//! The keys of a source of kind `webhook`.

use std::{ops::Range, time::Duration};

use super::super::webhook::{OnceBy, Scheme, Signature, Webhook};
use crate::{
    contract::toml_reader::{Problem, Table, units::show_duration},
    model::{limits::BODY_BYTES_MAX, name::Name},
};

const WINDOW: Range<Duration> = Duration::from_secs(1)..Duration::from_hours(30 * 24);
const TOLERANCE_DEFAULT: Duration = Duration::from_mins(5);
const TOLERANCE: Range<Duration> = Duration::from_secs(1)..Duration::from_hours(1);
/// Keys that other kinds of sources do not have.
const KEYS: [&str; 4] = ["max_body", "once_by", "once_window", "signature"];

pub(super) fn read(table: &mut Table<'_>) -> Option<Webhook> {
    let default = Webhook::default();
    let max_body = table.size("max_body", default.max_body, 1..BODY_BYTES_MAX);
    let once_by = table.parsed("once_by", r#""auto""#, read_once_by).unwrap_or(default.once_by);
    let once_window = table.duration("once_window", default.once_window, WINDOW);
    let signature = if table.span_of("signature").is_some() {
        Some(read_signature(table.table("signature"))?)
    } else {
        // Asked for, so that it is named among the keys there are.
        drop(table.table("signature"));
        None
    };
    let webhook = Webhook { max_body, once_by, once_window, signature };
    check_replay(table, &webhook);
    Some(webhook)
}

/// In a source of another kind.
pub(super) fn misplaced(table: &mut Table<'_>) {
    for key in KEYS {
        table.misplaced(key, "it is for sources of kind `webhook`");
    }
}

fn read_once_by(text: &str) -> Result<OnceBy, &'static str> {
    match text {
        "auto" => Ok(OnceBy::Auto),
        "none" => Ok(OnceBy::Nothing),
        pointer if is_pointer(pointer) => Ok(OnceBy::Pointer(pointer.to_owned())),
        _ => Err("`once_by` is `auto`, `none`, or a JSON pointer such as `/order/id`"),
    }
}

/// RFC 6901, but for the pointer to the whole.
fn is_pointer(text: &str) -> bool {
    let mut escapes = text.split('~').skip(1);
    text.starts_with('/') && escapes.all(|rest| rest.starts_with(['0', '1']))
}

fn read_signature(mut table: Table<'_>) -> Option<Signature> {
    if table.span_of("scheme").is_none() {
        table.missing("scheme", r#"scheme = "standard-webhooks""#);
    }
    let words = [("standard-webhooks", true), ("github", false)];
    let is_standard = table.one_of("scheme", &words);
    let secret = table.required("secret", r#""setting:webhook-secret""#, read_secret);
    // Without its scheme, nothing can be said of the other keys.
    let scheme = if is_standard? {
        let tolerance = table.duration("tolerance", TOLERANCE_DEFAULT, TOLERANCE);
        Scheme::StandardWebhooks { tolerance }
    } else {
        table.misplaced("tolerance", "GitHub's signatures say nothing of time");
        Scheme::Github
    };
    table.finish();
    Some(Signature { scheme, secret: secret? })
}

fn read_secret(text: &str) -> Result<Name, String> {
    match text.strip_prefix("setting:") {
        Some(name) => name.parse().map_err(|error| format!("{error}")),
        None => Err("write `setting:NAME`; the secret is the value of that setting".to_owned()),
    }
}

/// What was signed must not be taken in again for as long as its time is right.
fn check_replay(table: &Table<'_>, webhook: &Webhook) {
    let Some(Signature { scheme: Scheme::StandardWebhooks { tolerance }, .. }) = webhook.signature
    else {
        return;
    };
    if let (false, Some(span)) = (webhook.once_by == OnceBy::Auto, table.span_of("once_by")) {
        let problem = "messages signed by Standard Webhooks are taken in once by their `webhook-id`; leave `once_by` away";
        table.fault("once_by", &span, Problem::Invalid(problem.to_owned()));
    }
    // A message may be ahead of the node by the tolerance when it comes, and is right until it is as far behind.
    if webhook.once_window < 2 * tolerance {
        let span = table.span_of("once_window").or_else(|| table.span_of("signature"));
        let (window, tolerance) = (show_duration(webhook.once_window), show_duration(tolerance));
        let problem = format!(
            "`once_window` ({window}) must be twice as long as `tolerance` ({tolerance}), or a message could be sent again when its key is forgotten"
        );
        table.fault("once_window", &span.unwrap_or_default(), Problem::Invalid(problem));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::SourceKind, *};
    use crate::contract::manifest::parse::parse;

    fn read(keys: &str) -> Result<Webhook, String> {
        let text = format!(
            "name = \"a\"\nversion = \"1\"\n[[source]]\nname = \"in\"\nkind = \"webhook\"\n{keys}\n"
        );
        let manifest = parse(&text).map_err(|errors| errors.to_string())?;
        match &manifest.sources[0].kind {
            SourceKind::Webhook(webhook) => Ok(webhook.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults() {
        let webhook = Webhook {
            max_body: 1 << 20,
            once_by: OnceBy::Auto,
            once_window: Duration::from_hours(7 * 24),
            signature: None,
        };
        assert_eq!(read(""), Ok(webhook));
    }

    #[test]
    fn what_makes_a_message_one() {
        let once_by = |text: &str| read(&format!("once_by = \"{text}\"")).map(|w| w.once_by);
        assert_eq!(once_by("auto"), Ok(OnceBy::Auto));
        assert_eq!(once_by("none"), Ok(OnceBy::Nothing));
        for pointer in ["/id", "/a/0/b", "/a~1b~0c", "/"] {
            assert_eq!(once_by(pointer), Ok(OnceBy::Pointer(pointer.to_owned())));
        }
        for bad in ["", "id", "/a~2", "/a~", "$.id"] {
            let shown = once_by(bad).unwrap_err();
            assert!(shown.contains("JSON pointer such as `/order/id`"), "{bad}: {shown}");
        }
        assert_eq!(
            read("once_window = \"30d\"").unwrap().once_window,
            Duration::from_hours(30 * 24)
        );
        for bad in ["31d", "0s"] {
            let shown = read(&format!("once_window = \"{bad}\"")).unwrap_err();
            assert!(shown.contains("`once_window` must be at least 1s and at most 30d"), "{shown}");
        }
    }

    #[test]
    fn signatures() {
        let secret: Name = "hook-secret".parse().unwrap();
        let tolerance = Duration::from_mins(5);
        let standard =
            Signature { scheme: Scheme::StandardWebhooks { tolerance }, secret: secret.clone() };
        let inline =
            r#"signature = { scheme = "standard-webhooks", secret = "setting:hook-secret" }"#;
        assert_eq!(read(inline).unwrap().signature, Some(standard));
        let table =
            "[source.signature]\nscheme = \"github\"\nsecret = \"setting:hook-secret\"".to_owned();
        let github = Signature { scheme: Scheme::Github, secret };
        assert_eq!(read(&table).unwrap().signature, Some(github));
    }

    #[test]
    fn every_wrong_signature_says_what_is_right() {
        let standard = r#"scheme = "standard-webhooks", secret = "setting:s""#;
        for (keys, says) in [
            ("signature = {}".to_owned(), "`scheme` is missing"),
            ("signature = { scheme = \"github\" }".to_owned(), "`secret` is missing"),
            ("signature = 1".to_owned(), "expected a table"),
            (
                "signature = { scheme = \"md5\", secret = \"setting:s\" }".to_owned(),
                "`md5` is none of `standard-webhooks`, `github`",
            ),
            (
                "signature = { scheme = \"github\", secret = \"hunter2\" }".to_owned(),
                "write `setting:NAME`",
            ),
            (
                "signature = { scheme = \"github\", secret = \"setting:S\" }".to_owned(),
                "`S` is no name",
            ),
            (
                "signature = { scheme = \"github\", secret = \"setting:s\", tolerance = \"1m\" }"
                    .to_owned(),
                "GitHub's signatures say nothing of time",
            ),
            (
                format!("signature = {{ {standard}, tolerance = \"2h\" }}"),
                "`tolerance` must be at least 1s and at most 1h",
            ),
            (
                format!("once_by = \"none\"\nsignature = {{ {standard} }}"),
                "taken in once by their `webhook-id`",
            ),
            (
                format!("once_window = \"9m\"\nsignature = {{ {standard} }}"),
                "`once_window` (9m) must be twice as long as `tolerance` (5m)",
            ),
        ] {
            let shown = read(&keys).unwrap_err();
            assert!(shown.contains(says), "{keys}: {shown}");
        }
        assert!(read(&format!("once_window = \"10m\"\nsignature = {{ {standard} }}")).is_ok());
    }
}
