//! `tandem:solution/outbox`: HTTP requests to be made once the message is done.

use bytes::Bytes;
use url::Url;

use super::grant;
use crate::{
    contract::{
        capability::Grants,
        handler::{self, Level},
    },
    model::limits::{KEY_BYTES_MAX, URL_BYTES_MAX},
    runtime::{
        attempt::Attempt,
        bindings::tandem::solution::outbox::{Error, Host, Request},
        borrowed_view,
        header::{self, OF_THE_CONNECTION},
    },
};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

impl Host for Attempt {
    fn send(&mut self, request: Request) -> Result<String, Error> {
        let url = accept_url(&request.url)?;
        if let Err(line) = granted(&self.grants, &url) {
            self.lines.push(
                Level::Warn,
                &format!(
                    "outbox: a request to {} was refused; to allow it, add under [grants] in solution.toml: {line}",
                    grant::origin(&url)
                ),
            );
            return Err(Error::Denied(line));
        }
        let request = accept(request)?;
        match self.pending.send(request) {
            Ok(index) => Ok(self.message.effect_key(index)),
            Err(error) => Err(Error::TooMuch(error.to_string())),
        }
    }
}

/// `Err` is the line that would grant it.
fn granted(grants: &Grants, url: &Url) -> Result<(), String> {
    let setting = |name: &str| borrowed_view::with(|view| view.setting(name));
    if grants.outbox.iter().any(|target| target.allows(url, &setting)) {
        Ok(())
    } else {
        Err(grant::line("outbox", &grants.outbox, &grant::origin(url)))
    }
}

fn accept_url(text: &str) -> Result<Url, Error> {
    if text.len() > URL_BYTES_MAX {
        return Err(invalid(format!(
            "the URL is {} bytes; the most is {URL_BYTES_MAX}",
            text.len()
        )));
    }
    let url = Url::parse(text)
        .map_err(|error| invalid(format!("the URL is not absolute and well-formed: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid(format!("requests go to http or https, not {}", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(
            "leave the user out of the URL; use an authorization header".to_owned(),
        ));
    }
    Ok(url)
}

fn accept(request: Request) -> Result<handler::Request, Error> {
    let Request { method, url, headers, body, order } = request;
    if !METHODS.contains(&method.as_str()) {
        let method: String = method.chars().take(20).collect();
        return Err(invalid(format!(
            "the method is `{method}`; use one of {}",
            METHODS.join(", ")
        )));
    }
    if order.as_ref().is_some_and(|order| !(1..=KEY_BYTES_MAX).contains(&order.len())) {
        return Err(invalid(format!("`order` is 1 to {KEY_BYTES_MAX} bytes")));
    }
    let mut reserved = OF_THE_CONNECTION.to_vec();
    reserved.push("idempotency-key");
    let headers = header::accept(headers, &reserved).map_err(|fault| invalid(fault.to_string()))?;
    Ok(handler::Request { method, url, headers, body: Bytes::from(body), order })
}

fn invalid(reason: String) -> Error {
    Error::InvalidRequest(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::limits::EFFECT_BYTES_MAX,
        runtime::{
            bindings,
            fixture::{TableView, attempt, target},
        },
    };

    fn request(method: &str, url: &str) -> Request {
        Request {
            method: method.to_owned(),
            url: url.to_owned(),
            headers: vec![],
            body: vec![],
            order: None,
        }
    }

    fn granting() -> Attempt {
        attempt(Grants {
            outbox: vec![target("https", "api.example.com", 443)],
            ..Grants::default()
        })
    }

    fn send(attempt: &mut Attempt, request: Request) -> Result<String, Error> {
        borrowed_view::lend(&TableView::default(), || attempt.send(request))
    }

    #[test]
    fn a_granted_request_gets_the_key_it_will_carry() {
        let mut attempt = granting();
        for index in 0..2 {
            let key = send(&mut attempt, request("POST", "https://api.example.com/v1?x")).unwrap();
            assert_eq!(key, format!("{}-{index}", attempt.message));
        }
        assert_eq!(attempt.pending.into_effects().outbox.len(), 2);
    }

    #[test]
    fn a_refusal_says_the_line_to_add_and_tells_the_operator() {
        let mut attempt = granting();
        let Err(Error::Denied(line)) = send(&mut attempt, request("GET", "http://127.0.0.1:81/x"))
        else {
            panic!("not denied")
        };
        assert!(line.starts_with("outbox = [\""), "{line}");
        assert!(line.ends_with(", \"http://127.0.0.1:81\"]"), "{line}");
        let log = attempt.lines.take();
        assert_eq!(log.lines[0].level, Level::Warn);
        assert!(log.lines[0].text.contains(&line), "{}", log.lines[0].text);
        assert!(attempt.pending.into_effects().outbox.is_empty());
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let header = |name: &str| bindings::Header { name: name.to_owned(), value: b"x".to_vec() };
        let good = || request("POST", "https://api.example.com/");
        let long = format!("https://api.example.com/{}", "x".repeat(URL_BYTES_MAX));
        for broken in [
            request("post", "https://api.example.com/"),
            request("CONNECT", "https://api.example.com/"),
            request("GET", "/relative"),
            request("GET", "ftp://api.example.com/"),
            request("GET", "https://user:secret@api.example.com/"),
            request("GET", &long),
            Request { headers: vec![header("Host")], ..good() },
            Request { headers: vec![header("Idempotency-Key")], ..good() },
            Request { headers: vec![header("transfer-encoding")], ..good() },
            Request { headers: vec![header("a b")], ..good() },
            Request { order: Some(String::new()), ..good() },
        ] {
            let shown = format!("{broken:?}");
            let refused = send(&mut granting(), broken);
            assert!(matches!(refused, Err(Error::InvalidRequest(_))), "{shown}: {refused:?}");
        }
        let body = vec![0; EFFECT_BYTES_MAX];
        let refused = send(&mut granting(), Request { body, ..good() });
        assert!(matches!(refused, Err(Error::TooMuch(_))));
    }
}
