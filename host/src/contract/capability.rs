//! What a solution may reach: its grants, and which import needs which.

use std::{fmt, str::FromStr};

use url::{Host, Url};

use crate::model::name::{InvalidName, Name};

/// `[grants]`: nothing unless it is named here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Where outbox requests may go.
    pub outbox: Vec<Target>,
    /// Where `wasi:http` look-ups may go.
    pub http: Vec<Target>,
    /// Which solutions it may publish to.
    pub publish: Vec<Name>,
}

/// A place that requests may go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `https://host[:port]`; `*.` before the host for its subdomains, `:*` for any port.
    Origin { scheme: String, host: HostPattern, port: Port },
    /// `setting:NAME`: the origin of the URL that the operator has set under this name.
    Setting(Name),
}

/// Hosts are written as the URL standard has them: lower case, IDNA in its ASCII form, IPv6 in brackets, no dot at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    Exactly(String),
    /// Any subdomain of it, at any depth, not the host itself.
    Below(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    Number(u16),
    Any,
}

/// Why a text is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no target: {problem}")]
pub struct InvalidTarget {
    pub text: String,
    pub problem: TargetProblem,
}

/// What is wrong with it, and what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetProblem {
    #[error("write `https://host`, `https://host:port`, `https://*.host` or `setting:NAME`")]
    NoScheme,
    #[error("requests go to `http://` or `https://`, not `{0}://`")]
    Scheme(String),
    #[error("a target is a scheme, a host and a port; leave away `{0}` and what follows")]
    MoreThanAnOrigin(char),
    #[error("leave away the user before `@`")]
    UserInfo,
    #[error("the host is missing")]
    NoHost,
    #[error("`*` stands for subdomains only, as in `https://*.example.com`")]
    Star,
    #[error("`{0}` is no host")]
    Host(String),
    #[error("`{0}` is no port; use 1 to 65535, or `*` for any")]
    Port(String),
    #[error(transparent)]
    Setting(InvalidName),
}

impl Grants {
    /// One sentence for each grant, for whoever decides whether to deploy.
    pub fn lines(&self) -> Vec<String> {
        let outbox = self.outbox.iter().map(|to| format!("sends requests to {}", to.in_words()));
        let http = self.http.iter().map(|at| format!("looks things up at {}", at.in_words()));
        let publish = self.publish.iter().map(|to| format!("publishes messages to `{to}`"));
        outbox.chain(http).chain(publish).collect()
    }
}

impl Target {
    /// Whether a request to `url` may be made. `setting` gives a setting's value as JSON text.
    ///
    /// Scheme, host and port count; path, query and user do not.
    pub fn allows(&self, url: &Url, setting: &dyn Fn(&str) -> Option<String>) -> bool {
        let Some(asked) = Origin::of(url) else { return false };
        match self {
            Self::Origin { scheme, host, port } => {
                *scheme == asked.scheme && host.matches(&asked) && port.matches(asked.port)
            }
            Self::Setting(name) => setting(name.as_str())
                .and_then(|json| serde_json::from_str::<String>(&json).ok())
                .and_then(|text| Url::parse(&text).ok())
                .and_then(|url| Origin::of(&url))
                .is_some_and(|granted| granted == asked),
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Origin { .. } => self.to_string(),
            Self::Setting(name) => format!("the server in the setting `{name}`"),
        }
    }
}

/// Where a URL leads, written the one way that makes equal places equal.
#[derive(PartialEq, Eq)]
struct Origin {
    scheme: &'static str,
    host: String,
    host_is_domain: bool,
    port: u16,
}

impl Origin {
    fn of(url: &Url) -> Option<Self> {
        let scheme = known_scheme(url.scheme())?;
        let host = url.host()?;
        Some(Self {
            scheme,
            host: written(&host),
            host_is_domain: matches!(host, Host::Domain(_)),
            port: url.port_or_known_default()?,
        })
    }
}

fn known_scheme(scheme: &str) -> Option<&'static str> {
    ["https", "http"].into_iter().find(|known| *known == scheme)
}

/// `example.com.` is `example.com`: the dot says that the name is complete, and here every name is.
fn written<S: AsRef<str>>(host: &Host<S>) -> String {
    match host {
        Host::Domain(name) => name.as_ref().strip_suffix('.').unwrap_or(name.as_ref()).to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => format!("[{address}]"),
    }
}

impl HostPattern {
    fn matches(&self, asked: &Origin) -> bool {
        match self {
            Self::Exactly(host) => *host == asked.host,
            // An address has no subdomains, though `10.0.0.1` ends in `.1`.
            Self::Below(host) => {
                asked.host_is_domain
                    && asked
                        .host
                        .strip_suffix(host.as_str())
                        .and_then(|rest| rest.strip_suffix('.'))
                        .is_some_and(|label| !label.is_empty())
            }
        }
    }
}

impl Port {
    fn matches(self, asked: u16) -> bool {
        match self {
            Self::Number(number) => number == asked,
            Self::Any => true,
        }
    }
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        parse(text)
            .map_err(|problem| InvalidTarget { text: text.chars().take(200).collect(), problem })
    }
}

fn parse(text: &str) -> Result<Target, TargetProblem> {
    if let Some(name) = text.strip_prefix("setting:") {
        return name.parse().map(Target::Setting).map_err(TargetProblem::Setting);
    }
    let (scheme, rest) = text.split_once("://").ok_or(TargetProblem::NoScheme)?;
    let scheme = known_scheme(&scheme.to_ascii_lowercase())
        .ok_or_else(|| TargetProblem::Scheme(scheme.to_owned()))?;
    if rest.contains('@') {
        return Err(TargetProblem::UserInfo);
    }
    if let Some(more) = rest.chars().find(|c| matches!(c, '/' | '\\' | '?' | '#')) {
        return Err(TargetProblem::MoreThanAnOrigin(more));
    }
    let (host, port) = split_port(rest);
    let port = match port {
        None => Port::Number(default_port(scheme)),
        Some("*") => Port::Any,
        Some(number) => parse_port(number)?,
    };
    Ok(Target::Origin { scheme: scheme.to_owned(), host: parse_host(host)?, port })
}

/// The colons of an IPv6 address are inside its brackets.
fn split_port(rest: &str) -> (&str, Option<&str>) {
    match rest.rfind(':') {
        Some(at) if !rest[at..].contains(']') => (&rest[..at], Some(&rest[at + 1..])),
        _ => (rest, None),
    }
}

fn parse_port(text: &str) -> Result<Port, TargetProblem> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(number @ 1..) if digits => Ok(Port::Number(number)),
        _ => Err(TargetProblem::Port(text.to_owned())),
    }
}

fn parse_host(text: &str) -> Result<HostPattern, TargetProblem> {
    if text.is_empty() {
        return Err(TargetProblem::NoHost);
    }
    let (below, name) = match text.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, text),
    };
    if name.contains('*') || name.is_empty() {
        return Err(TargetProblem::Star);
    }
    let host = Host::parse(name).map_err(|_| TargetProblem::Host(name.to_owned()))?;
    let written = written(&host);
    let labels_are_full = written.split('.').all(|label| !label.is_empty());
    match host {
        Host::Domain(_) if !labels_are_full => Err(TargetProblem::Host(name.to_owned())),
        Host::Domain(_) if below => Ok(HostPattern::Below(written)),
        _ if below => Err(TargetProblem::Star),
        _ => Ok(HostPattern::Exactly(written)),
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Setting(name) => return write!(f, "setting:{name}"),
            Self::Origin { scheme, host, port } => (scheme, host, *port),
        };
        match host {
            HostPattern::Exactly(host) => write!(f, "{scheme}://{host}")?,
            HostPattern::Below(host) => write!(f, "{scheme}://*.{host}")?,
        }
        match port {
            Port::Any => write!(f, ":*"),
            Port::Number(number) if number == default_port(scheme) => Ok(()),
            Port::Number(number) => write!(f, ":{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn setting(name: &str) -> Option<String> {
        match name {
            "crm-url" => Some(r#""https://CRM.example.com/api/v2?x=1""#.to_owned()),
            "local" => Some(r#""http://127.0.0.1:8080""#.to_owned()),
            "number" => Some("7".to_owned()),
            "bare" => Some("https://bare.example.com".to_owned()),
            "no-url" => Some(r#""crm.example.com""#.to_owned()),
            "file" => Some(r#""file:///etc/passwd""#.to_owned()),
            _ => None,
        }
    }

    #[test]
    fn targets_are_written_back_as_they_were_meant() {
        for (text, written) in [
            ("https://crm.example.com", "https://crm.example.com"),
            ("HTTPS://CRM.Example.com", "https://crm.example.com"),
            ("https://crm.example.com:443", "https://crm.example.com"),
            ("https://crm.example.com.", "https://crm.example.com"),
            ("https://crm.example.com:8443", "https://crm.example.com:8443"),
            ("http://crm.example.com:443", "http://crm.example.com:443"),
            ("http://127.0.0.1:*", "http://127.0.0.1:*"),
            ("http://0x7f.1", "http://127.0.0.1"),
            ("https://*.example.com", "https://*.example.com"),
            ("https://*.example.com:*", "https://*.example.com:*"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("http://[0:0:0:0:0:0:0:1]", "http://[::1]"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("setting:crm-url", "setting:crm-url"),
        ] {
            assert_eq!(target(text).to_string(), written, "{text}");
            assert_eq!(target(written), target(text), "{written} does not read back");
        }
    }

    #[test]
    fn what_is_no_target_says_what_to_write() {
        for (text, says) in [
            ("crm.example.com", "write `https://host`"),
            ("", "write `https://host`"),
            ("ftp://crm.example.com", "not `ftp://`"),
            ("https://crm.example.com/", "leave away `/`"),
            ("https://crm.example.com/api", "leave away `/`"),
            ("https://crm.example.com?x", "leave away `?`"),
            ("https://crm.example.com#x", "leave away `#`"),
            ("https:///x", "leave away `/`"),
            ("https://me@crm.example.com", "the user before `@`"),
            ("https://", "the host is missing"),
            ("https://:80", "the host is missing"),
            ("https://*", "`*` stands for subdomains only"),
            ("https://*.", "`*` stands for subdomains only"),
            ("https://*.*.example.com", "`*` stands for subdomains only"),
            ("https://crm.*.com", "`*` stands for subdomains only"),
            ("https://*.127.0.0.1", "`*` stands for subdomains only"),
            ("https://a b", "`a b` is no host"),
            ("https://a..b", "`a..b` is no host"),
            ("https://::1", "is no host"),
            ("https://crm.example.com:0", "`0` is no port"),
            ("https://crm.example.com:65536", "`65536` is no port"),
            ("https://crm.example.com:+1", "`+1` is no port"),
            ("https://crm.example.com:", "`` is no port"),
            ("setting:", "is no name"),
            ("setting:CRM", "`CRM` is no name"),
        ] {
            let error = text.parse::<Target>().expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn an_origin_is_matched_by_scheme_host_and_port() {
        for (granted, url, allowed) in [
            ("https://crm.example.com", "https://crm.example.com/any/path?q#f", true),
            ("https://crm.example.com", "https://CRM.EXAMPLE.COM:443/", true),
            ("https://crm.example.com", "https://crm.example.com./", true),
            ("https://crm.example.com", "https://crm.example.com../", false),
            ("https://crm.example.com", "http://crm.example.com/", false),
            ("https://crm.example.com", "http://crm.example.com:443/", false),
            ("https://crm.example.com", "https://crm.example.com:8443/", false),
            ("https://crm.example.com", "https://a.crm.example.com/", false),
            ("https://crm.example.com", "https://crm.example.com.evil.org/", false),
            // The host is what follows the last `@`.
            ("https://crm.example.com", "https://crm.example.com@evil.org/", false),
            ("https://crm.example.com", "https://crm.example.com:443@evil.org/", false),
            ("https://crm.example.com", r"https://evil.org\@crm.example.com/", false),
            ("https://crm.example.com", "https://me:secret@crm.example.com/", true),
            ("https://crm.example.com", "https://crm%2eexample%2ecom/", true),
            ("https://crm.example.com", "ws://crm.example.com/", false),
            ("https://crm.example.com", "file:///crm.example.com", false),
            ("https://crm.example.com", "data:,crm.example.com", false),
            ("https://*.example.com", "https://crm.example.com/", true),
            ("https://*.example.com", "https://a.b.example.com./", true),
            ("https://*.example.com", "https://example.com/", false),
            ("https://*.example.com", "https://.example.com/", false),
            ("https://*.example.com", "https://badexample.com/", false),
            ("https://*.example.com", "https://crm.example.com:444/", false),
            ("https://*.example.com:*", "https://crm.example.com:444/", true),
            ("http://127.0.0.1:*", "http://127.0.0.1:31337/", true),
            ("http://127.0.0.1:*", "http://2130706433:31337/", true),
            ("http://127.0.0.1:*", "http://localhost:31337/", false),
            ("http://127.0.0.1:*", "http://[::1]:31337/", false),
            // Reaches the same place, but was not granted in this writing.
            ("http://127.0.0.1:*", "http://[::ffff:127.0.0.1]:31337/", false),
            ("http://[::1]:8080", "http://[0:0::1]:8080/", true),
            ("http://[::1]:8080", "http://[::1]/", false),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(target(granted).allows(&url, &|_| None), allowed, "{granted}: {url}");
        }
        let below_a_number = Target::Origin {
            scheme: "http".to_owned(),
            host: HostPattern::Below("1".to_owned()),
            port: Port::Any,
        };
        assert!(!below_a_number.allows(&Url::parse("http://10.0.0.1").unwrap(), &|_| None));
    }

    #[test]
    fn a_setting_grants_the_origin_of_its_url() {
        for (granted, url, allowed) in [
            ("setting:crm-url", "https://crm.example.com/other/path", true),
            ("setting:crm-url", "https://crm.example.com.:443/", true),
            ("setting:crm-url", "http://crm.example.com/", false),
            ("setting:crm-url", "https://crm.example.com:444/", false),
            ("setting:local", "http://127.0.0.1:8080/", true),
            ("setting:local", "http://127.0.0.1/", false),
            ("setting:number", "https://crm.example.com/", false),
            ("setting:bare", "https://bare.example.com/", false),
            ("setting:no-url", "https://crm.example.com/", false),
            ("setting:file", "file:///etc/passwd", false),
            ("setting:unset", "https://crm.example.com/", false),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(target(granted).allows(&url, &setting), allowed, "{granted}: {url}");
        }
    }

    #[test]
    fn grants_in_words() {
        let grants = Grants {
            outbox: vec![target("https://*.example.com"), target("setting:crm-url")],
            http: vec![target("http://127.0.0.1:*")],
            publish: vec!["audit".parse().unwrap()],
        };
        assert_eq!(
            grants.lines(),
            [
                "sends requests to https://*.example.com",
                "sends requests to the server in the setting `crm-url`",
                "looks things up at http://127.0.0.1:*",
                "publishes messages to `audit`",
            ]
        );
        assert!(Grants::default().lines().is_empty());
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_reads_back(text in r"https?://(\*\.)?[a-zA-Z0-9.ü\[\]:*-]{1,20}(:[0-9*]{1,5})?") {
            if let Ok(read) = text.parse::<Target>() {
                assert_eq!(target(&read.to_string()), read);
            }
        }
    }
}
