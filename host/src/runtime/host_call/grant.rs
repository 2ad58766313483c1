//! The line of `solution.toml` that would allow what was refused.

use std::fmt::Display;

use url::{Host, Url};

/// `outbox = ["https://already.granted", "https://refused"]`, to stand under `[grants]`.
pub(in crate::runtime) fn line(grant: &str, granted: &[impl Display], refused: &str) -> String {
    let mut all: Vec<String> = granted.iter().map(|one| format!("\"{one}\"")).collect();
    all.push(format!("\"{refused}\""));
    format!("{grant} = [{}]", all.join(", "))
}

/// `https://host[:port]`: what to grant for a request to `url`.
pub(in crate::runtime) fn origin(url: &Url) -> String {
    let host = match url.host() {
        Some(Host::Domain(name)) => name.strip_suffix('.').unwrap_or(name).to_owned(),
        Some(address) => address.to_string(),
        None => String::new(),
    };
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    format!("{}://{host}{port}", url.scheme())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_keeps_what_is_granted_already() {
        let url = Url::parse("HTTPS://Api.Example.com:8443/x?y").unwrap();
        let line = line("outbox", &["https://crm.example.com"], &origin(&url));
        let expected = r#"outbox = ["https://crm.example.com", "https://api.example.com:8443"]"#;
        assert_eq!(line, expected);
    }

    #[test]
    fn an_origin_is_written_as_a_grant_is() {
        for (url, expected) in [
            ("https://a.example:443/", "https://a.example"),
            ("http://[::1]:80/", "http://[::1]"),
            ("http://127.1:81/", "http://127.0.0.1:81"),
            ("https://user@a.example./", "https://a.example"),
        ] {
            assert_eq!(origin(&Url::parse(url).unwrap()), expected);
        }
    }
}
