//! `tandem:solution/publish`: messages to solutions, now or later.

use std::time::Duration;

use bytes::Bytes;

use super::grant;
use crate::{
    contract::{
        capability::Grants,
        handler::{self, Level},
    },
    model::{
        limits::{BODY_BYTES_MAX, KEY_BYTES_MAX},
        message::Content,
        name::Name,
    },
    runtime::{
        attempt::Attempt,
        bindings::tandem::solution::publish::{Error, Host, Publication},
        header,
    },
};

/// Longer than that is a mistake in the unit.
const AFTER_MAX: Duration = Duration::from_hours(24 * 366 * 10);

impl Host for Attempt {
    fn publish(&mut self, publication: Publication) -> Result<(), Error> {
        let publication = accept(publication)?;
        if let Err(line) = granted(&self.grants, &publication.solution) {
            self.lines.push(
                Level::Warn,
                &format!(
                    "publish: a message to {} was refused; to allow it, add under [grants] in solution.toml: {line}",
                    publication.solution
                ),
            );
            return Err(Error::Denied(line));
        }
        self.pending.publish(publication).map_err(|error| Error::TooMuch(error.to_string()))
    }
}

/// `Err` is the line that would grant it.
fn granted(grants: &Grants, solution: &Name) -> Result<(), String> {
    if grants.publish.contains(solution) {
        Ok(())
    } else {
        Err(grant::line("publish", &grants.publish, solution.as_str()))
    }
}

fn accept(publication: Publication) -> Result<handler::Publication, Error> {
    let Publication { solution, source, headers, content_type, key, body, after_ms } = publication;
    let name = |what: &str, text: String| {
        text.parse::<Name>().map_err(|fault| invalid(format!("{what}: {fault}")))
    };
    let (solution, source) = (name("solution", solution)?, name("source", source)?);
    if body.len() as u64 > BODY_BYTES_MAX {
        return Err(invalid(format!(
            "the body is {} bytes; the most is {BODY_BYTES_MAX}",
            body.len()
        )));
    }
    if key.as_ref().is_some_and(|key| !(1..=KEY_BYTES_MAX).contains(&key.len())) {
        return Err(invalid(format!("a key is 1 to {KEY_BYTES_MAX} bytes")));
    }
    if content_type.as_deref().is_some_and(|text| !header::is_value(text)) {
        return Err(invalid("the content type has bytes that no header may have".to_owned()));
    }
    let after = after_ms.map(Duration::from_millis);
    if after.is_some_and(|after| after > AFTER_MAX) {
        return Err(invalid(format!("`after-ms` is at most {}, ten years", AFTER_MAX.as_millis())));
    }
    let headers = header::accept(headers, &[]).map_err(|fault| invalid(fault.to_string()))?;
    let content = Content { source, headers, content_type, key, body: Bytes::from(body) };
    Ok(handler::Publication { solution, content, after })
}

fn invalid(reason: String) -> Error {
    Error::InvalidMessage(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{bindings, fixture::attempt};

    fn publication() -> Publication {
        Publication {
            solution: "billing".to_owned(),
            source: "orders".to_owned(),
            headers: vec![],
            content_type: None,
            key: None,
            body: vec![],
            after_ms: None,
        }
    }

    fn granting() -> Attempt {
        attempt(Grants { publish: vec!["billing".parse().unwrap()], ..Grants::default() })
    }

    #[test]
    fn a_granted_message_is_kept_with_its_delay() {
        let mut attempt = granting();
        attempt.publish(Publication { after_ms: Some(1500), ..publication() }).unwrap();
        let effects = attempt.pending.into_effects();
        assert_eq!(effects.publish[0].after, Some(Duration::from_millis(1500)));
        assert_eq!(effects.publish[0].content.source.as_str(), "orders");
    }

    #[test]
    fn a_refusal_says_the_line_to_add_and_tells_the_operator() {
        let mut attempt = granting();
        let refused = attempt.publish(Publication { solution: "audit".into(), ..publication() });
        let line = r#"publish = ["billing", "audit"]"#;
        assert!(matches!(refused, Err(Error::Denied(text)) if text == line));
        assert!(attempt.lines.take().lines[0].text.contains(line));
        assert!(attempt.pending.into_effects().publish.is_empty());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let body = vec![0; usize::try_from(BODY_BYTES_MAX).unwrap() + 1];
        for broken in [
            Publication { solution: "No Name".into(), ..publication() },
            Publication { source: String::new(), ..publication() },
            Publication { key: Some(String::new()), ..publication() },
            Publication { key: Some("k".repeat(KEY_BYTES_MAX + 1)), ..publication() },
            Publication { content_type: Some("a\nb".into()), ..publication() },
            Publication { after_ms: Some(u64::MAX), ..publication() },
            Publication {
                headers: vec![bindings::Header { name: "a b".into(), value: vec![] }],
                ..publication()
            },
            Publication { body, ..publication() },
        ] {
            let refused = granting().publish(broken);
            assert!(matches!(refused, Err(Error::InvalidMessage(_))), "{refused:?}");
        }
    }
}
