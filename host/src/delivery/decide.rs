//! What is done first with a delivery, and what an answer, or that there was none, means for it. Pure.

use std::time::Duration;

use crate::{
    contract::manifest::{Class, Delivery},
    model::clock::UnixMs,
    net::http_client::{Answer, CallError},
    store::row::delivery::DeliveryStatusRow,
};

/// The longest that `Retry-After` is listened to.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Delivered,
    TryAgain {
        /// Not before this time.
        at: UnixMs,
        because: String,
    },
    DeadLetter {
        because: String,
    },
    /// It may have been done, and is not to be done twice.
    Unknown {
        because: String,
    },
}

/// What is done first with an effect that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The other node has made it: it is over.
    Close,
    /// It was begun, and whether it was made is not known: it is not made again.
    Leave {
        begun_ms: UnixMs,
    },
    /// Its beginning is kept before it is made.
    Mark,
    Make,
}

/// `status` is what is known of it; `is_same`: of the very request that is asked for now.
pub fn first(status: Option<DeliveryStatusRow>, is_same: bool, class: Class) -> First {
    match (status, class) {
        (Some(DeliveryStatusRow::Delivered), _) if is_same => First::Close,
        (_, Class::Idempotent) => First::Make,
        (Some(DeliveryStatusRow::Begun { at_ms }), Class::AtMostOnce | Class::Ask) => {
            First::Leave { begun_ms: at_ms }
        }
        (_, Class::AtMostOnce | Class::Ask) => First::Mark,
    }
}

/// `attempts` counts the one that `result` is of. `jitter` is random in 0 to 1.
pub fn decide(
    result: &Result<Answer, CallError>,
    attempts: u32,
    delivery: &Delivery,
    now: UnixMs,
    jitter: f64,
) -> Decision {
    let may_repeat = delivery.class == Class::Idempotent;
    let (because, floor) = match result {
        Ok(answer) if !may_repeat && may_be_done(answer.status) => {
            return Decision::Unknown { because: format!("it answered {}", answer.status) };
        }
        Ok(answer) => match meaning(answer.status) {
            Meaning::Taken => return Decision::Delivered,
            Meaning::Refused => return Decision::DeadLetter { because: refusal(answer) },
            Meaning::NotNow => {
                let floor = answer.retry_after.as_deref().and_then(|text| retry_after(text, now));
                (format!("it answered {}", answer.status), floor.unwrap_or_default())
            }
        },
        Err(error) if !error.is_passing() => {
            return Decision::DeadLetter { because: error.to_string() };
        }
        Err(error) if !may_repeat && !error.is_unsent() => {
            return Decision::Unknown { because: error.to_string() };
        }
        Err(error) => (error.to_string(), Duration::ZERO),
    };
    if attempts >= delivery.attempts {
        let because = format!("{because}; that was attempt {attempts} of {}", delivery.attempts);
        return Decision::DeadLetter { because };
    }
    let wait = delivery.backoff.wait(attempts, jitter).max(floor);
    Decision::TryAgain { at: now.saturating_add(whole_ms(wait)), because }
}

enum Meaning {
    Taken,
    /// By itself it gets no better.
    Refused,
    NotNow,
}

fn meaning(status: u16) -> Meaning {
    match status {
        200..=299 => Meaning::Taken,
        // Request Timeout, Too Early, Too Many Requests: about the moment, not about the request.
        408 | 425 | 429 | 500..=599 => Meaning::NotNow,
        _ => Meaning::Refused,
    }
}

/// Whether a receiver that answers so may have done it all the same, or some of it.
fn may_be_done(status: u16) -> bool {
    // Service Unavailable says that it was not tried.
    status == 408 || (matches!(status, 500..=599) && status != 503)
}

fn refusal(answer: &Answer) -> String {
    let status = answer.status;
    match (status, &answer.location) {
        (300..=399, Some(location)) => format!(
            "it answered {status} and points to {location}; redirects are not followed: set the URL to where it leads"
        ),
        (300..=399, None) => format!("it answered {status}; redirects are not followed"),
        _ => format!("it answered {status}"),
    }
}

/// Seconds or an HTTP date; a date that is past is no wait.
fn retry_after(text: &str, now: UnixMs) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // So many digits that they do not fit are more than the most.
        text.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        let now = std::time::UNIX_EPOCH + Duration::from_millis(now);
        date.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::contract::manifest::Backoff;

    /// 6 November 1994, 08:49:37.
    const NOW: UnixMs = 784_111_777_000;

    fn delivery() -> Delivery {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_mins(5) };
        let (timeout, class) = (Duration::from_secs(30), Class::Idempotent);
        Delivery { attempts: 4, timeout, backoff, class }
    }

    fn answer(status: u16, retry_after: Option<&str>) -> Answer {
        let retry_after = retry_after.map(str::to_owned);
        Answer { status, retry_after, location: None, body_prefix: Bytes::new() }
    }

    fn decided(result: &Result<Answer, CallError>, attempts: u32) -> Decision {
        decide(result, attempts, &delivery(), NOW, 0.5)
    }

    fn dead(because: &str) -> Decision {
        Decision::DeadLetter { because: because.to_owned() }
    }

    fn again_after(ms: u64, because: &str) -> Decision {
        Decision::TryAgain { at: NOW + ms, because: because.to_owned() }
    }

    #[test]
    fn every_status_has_its_meaning() {
        for status in 100..=999 {
            let expected = match status {
                200..=299 => Decision::Delivered,
                408 | 425 | 429 | 500..=599 => again_after(1000, &format!("it answered {status}")),
                300..=399 => dead(&format!("it answered {status}; redirects are not followed")),
                _ => dead(&format!("it answered {status}")),
            };
            assert_eq!(decided(&Ok(answer(status, None)), 1), expected);
        }
    }

    #[test]
    fn what_may_be_done_is_not_repeated_unless_it_may_be() {
        for class in [Class::AtMostOnce, Class::Ask] {
            let delivery = Delivery { class, ..delivery() };
            let decided = |result| decide(&result, 1, &delivery, NOW, 0.5);
            for status in [408, 500, 502, 504] {
                let because = format!("it answered {status}");
                assert_eq!(decided(Ok(answer(status, None))), Decision::Unknown { because });
            }
            for status in [425, 429, 503] {
                let decision = decided(Ok(answer(status, None)));
                assert_eq!(decision, again_after(1000, &format!("it answered {status}")));
            }
            assert_eq!(decided(Ok(answer(200, None))), Decision::Delivered);
            assert_eq!(decided(Ok(answer(422, None))), dead("it answered 422"));
            let unsent = CallError::Refused("x".to_owned());
            assert_eq!(decided(Err(unsent.clone())), again_after(1000, &unsent.to_string()));
            let sent = CallError::BrokenOff("x".to_owned());
            let because = sent.to_string();
            assert_eq!(decided(Err(sent)), Decision::Unknown { because });
        }
    }

    #[test]
    fn what_is_done_first() {
        let begun = Some(DeliveryStatusRow::Begun { at_ms: 7 });
        let again = Some(DeliveryStatusRow::Again { due_ms: 7 });
        let delivered = Some(DeliveryStatusRow::Delivered);
        for class in [Class::Idempotent, Class::AtMostOnce, Class::Ask] {
            let may_repeat = class == Class::Idempotent;
            let afresh = if may_repeat { First::Make } else { First::Mark };
            let doubtful = if may_repeat { First::Make } else { First::Leave { begun_ms: 7 } };
            assert_eq!(first(delivered, true, class), First::Close);
            // Handled anew, it asks for another.
            assert_eq!(first(delivered, false, class), afresh);
            assert_eq!(first(None, false, class), afresh);
            assert_eq!(first(again, true, class), afresh);
            for is_same in [true, false] {
                assert_eq!(first(begun, is_same, class), doubtful);
            }
        }
    }

    #[test]
    fn a_redirect_says_where_to() {
        let location = Some("https://new.example/".to_owned());
        let answer = Answer { status: 302, retry_after: None, location, body_prefix: Bytes::new() };
        assert_eq!(
            decided(&Ok(answer), 1),
            dead(
                "it answered 302 and points to https://new.example/; redirects are not followed: set the URL to where it leads"
            )
        );
    }

    #[test]
    fn waits_double_until_the_attempts_are_used_up() {
        let busy = Ok(answer(503, None));
        assert_eq!(decided(&busy, 1), again_after(1000, "it answered 503"));
        assert_eq!(decided(&busy, 2), again_after(2000, "it answered 503"));
        assert_eq!(decided(&busy, 3), again_after(4000, "it answered 503"));
        assert_eq!(decided(&busy, 4), dead("it answered 503; that was attempt 4 of 4"));
        assert_eq!(decided(&busy, 5), dead("it answered 503; that was attempt 5 of 4"));
        assert_eq!(decided(&Ok(answer(200, None)), 4), Decision::Delivered);
        let jittered = decide(&busy, 1, &delivery(), NOW, 1.0);
        assert_eq!(jittered, again_after(1200, "it answered 503"));
    }

    #[test]
    fn retry_after_is_a_floor_and_has_a_cap() {
        for (text, ms) in [
            ("0", 1000),
            ("7", 7000),
            (" 7 ", 7000),
            ("3600", 3_600_000),
            ("3601", 3_600_000),
            ("99999999999999999999999", 3_600_000),
            ("Sun, 06 Nov 1994 08:50:37 GMT", 60_000),
            ("Sunday, 06-Nov-94 08:50:37 GMT", 60_000),
            ("Sun Nov  6 08:50:37 1994", 60_000),
            ("Sun, 06 Nov 1994 08:00:00 GMT", 1000),
            ("Mon, 07 Nov 1994 08:49:37 GMT", 3_600_000),
            ("", 1000),
            ("-7", 1000),
            ("soon", 1000),
        ] {
            let decision = decided(&Ok(answer(429, Some(text))), 1);
            assert_eq!(decision, again_after(ms, "it answered 429"), "{text}");
        }
        // Attempts that are used up stay so, and a refusal is no invitation.
        assert_eq!(
            decided(&Ok(answer(429, Some("7"))), 4),
            dead("it answered 429; that was attempt 4 of 4")
        );
        assert_eq!(decided(&Ok(answer(403, Some("7"))), 1), dead("it answered 403"));
    }

    #[test]
    fn faults_of_the_connection_are_tried_again() {
        for error in [
            CallError::Refused("x".to_owned()),
            CallError::Dns("x".to_owned()),
            CallError::Unreachable("x".to_owned()),
            CallError::Tls("x".to_owned()),
            CallError::NoRoots("x".to_owned()),
            CallError::TimedOut { after: Duration::from_secs(30) },
            CallError::ConnectTimedOut("x".to_owned()),
            CallError::BrokenOff("x".to_owned()),
            CallError::NotHttp("x".to_owned()),
        ] {
            let because = error.to_string();
            assert_eq!(decided(&Err(error.clone()), 2), again_after(2000, &because));
            assert_eq!(
                decided(&Err(error), 4),
                dead(&format!("{because}; that was attempt 4 of 4"))
            );
        }
        assert_eq!(
            decided(&Err(CallError::Unsendable("x".to_owned())), 1),
            dead("the request cannot be made: x")
        );
    }
}
