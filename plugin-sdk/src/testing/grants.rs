//! Whether a request's target is among the granted ones.

use std::{collections::BTreeMap, fmt};

/// Scheme, host and port of a URL, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// `None` if it is no absolute http or https URL, or has a user name in it.
    pub(super) fn of(url: &str) -> Option<Self> {
        let (scheme, host, port) = split(url)?;
        let port = match (port, scheme.as_str()) {
            (Some(port), _) => port.parse().ok()?,
            (None, "http") => 80,
            (None, _) => 443,
        };
        Some(Self { scheme, host, port })
    }

    /// By one line of `outbox = […]`.
    pub(super) fn is_granted(&self, grant: &str, settings: &BTreeMap<String, String>) -> bool {
        if let Some(name) = grant.strip_prefix("setting:") {
            let url = settings.get(name).and_then(|json| serde_json::from_str::<String>(json).ok());
            return url.and_then(|url| Self::of(&url)).as_ref() == Some(self);
        }
        let Some((scheme, host, port)) = split(grant) else { return false };
        let host_fits = match host.strip_prefix("*.") {
            Some(domain) => self
                .host
                .strip_suffix(domain)
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
            None => self.host == host,
        };
        let port_fits = port == Some("*") || Self::of(grant).is_some_and(|o| o.port == self.port);
        self.scheme == scheme && host_fits && port_fits
    }
}

fn split(url: &str) -> Option<(String, String, Option<&str>)> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let authority = rest.split(['/', '?', '#']).next()?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_host = !host.is_empty() && !host.contains(|c: char| c == '@' || c.is_whitespace());
    let fits = is_host && ["http", "https"].contains(&scheme.as_str());
    fits.then(|| (scheme, host.to_ascii_lowercase(), port))
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        match (scheme.as_str(), port) {
            ("http", 80) | ("https", 443) => write!(f, "{scheme}://{host}"),
            _ => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let text = |url| Origin::of(url).map(|origin| origin.to_string());
        assert_eq!(text("HTTPS://Crm.Example:443/a?b").as_deref(), Some("https://crm.example"));
        assert_eq!(text("http://[::1]:8080").as_deref(), Some("http://[::1]:8080"));
        assert_eq!(text("http://[::1]/").as_deref(), Some("http://[::1]"));
        for url in ["crm.example", "/a", "ftp://a", "https://", "https://u:p@a", "http://a:99999"] {
            assert_eq!(text(url), None, "{url}");
        }
    }

    #[test]
    fn grants() {
        let settings = [("crm_url".to_owned(), "\"https://crm.example/v1\"".to_owned())].into();
        for (url, grant, granted) in [
            ("https://crm.example/leads", "https://crm.example", true),
            ("https://crm.example:8443/", "https://crm.example", false),
            ("http://crm.example/", "https://crm.example", false),
            ("http://127.0.0.1:4711/x", "http://127.0.0.1:*", true),
            ("https://a.b.example/", "https://*.example", true),
            ("https://example/", "https://*.example", false),
            ("https://bad-example/", "https://*.example", false),
            ("https://crm.example/v2", "setting:crm_url", true),
            ("https://crm.example/v2", "setting:other", false),
        ] {
            let origin = Origin::of(url).unwrap();
            assert_eq!(origin.is_granted(grant, &settings), granted, "{url} by {grant}");
        }
    }
}
