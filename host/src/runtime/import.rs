//! Which imports a component may have, and which grant each needs.

use crate::contract::capability::Grants;

/// What an import asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Linked for everyone: data of the attempt itself, or a part of WASI that leads nowhere here.
    Nothing,
    Outbox,
    Publish,
    Http,
}

impl Needs {
    /// The name under `[grants]`.
    pub(super) fn grant(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Outbox => Some("outbox"),
            Self::Publish => Some("publish"),
            Self::Http => Some("http"),
        }
    }

    pub(super) fn is_granted(self, grants: &Grants) -> bool {
        match self {
            Self::Nothing => true,
            Self::Outbox => !grants.outbox.is_empty(),
            Self::Publish => !grants.publish.is_empty(),
            Self::Http => !grants.http.is_empty(),
        }
    }
}

/// An interface that is linked here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Without the version.
    pub(super) name: &'static str,
    pub(super) needs: Needs,
}

/// The versions that are linked, by package; a component may ask for any that agrees in the first two numbers.
const PACKAGES: [(&str, &str); 8] = [
    ("tandem:solution", "0.1.0"),
    ("wasi:cli", "0.2.12"),
    ("wasi:clocks", "0.2.12"),
    ("wasi:filesystem", "0.2.12"),
    ("wasi:http", "0.2.12"),
    ("wasi:io", "0.2.12"),
    ("wasi:random", "0.2.12"),
    ("wasi:sockets", "0.2.12"),
];

const fn known(name: &'static str, needs: Needs) -> Known {
    Known { name, needs }
}

const KNOWN: [Known; 35] = [
    known("tandem:solution/types", Needs::Nothing),
    known("tandem:solution/state", Needs::Nothing),
    known("tandem:solution/settings", Needs::Nothing),
    known("tandem:solution/log", Needs::Nothing),
    known("tandem:solution/outbox", Needs::Outbox),
    known("tandem:solution/publish", Needs::Publish),
    known("wasi:http/types", Needs::Http),
    known("wasi:http/outgoing-handler", Needs::Http),
    known("wasi:cli/environment", Needs::Nothing),
    known("wasi:cli/exit", Needs::Nothing),
    known("wasi:cli/stdin", Needs::Nothing),
    known("wasi:cli/stdout", Needs::Nothing),
    known("wasi:cli/stderr", Needs::Nothing),
    known("wasi:cli/terminal-input", Needs::Nothing),
    known("wasi:cli/terminal-output", Needs::Nothing),
    known("wasi:cli/terminal-stdin", Needs::Nothing),
    known("wasi:cli/terminal-stdout", Needs::Nothing),
    known("wasi:cli/terminal-stderr", Needs::Nothing),
    known("wasi:clocks/monotonic-clock", Needs::Nothing),
    known("wasi:clocks/wall-clock", Needs::Nothing),
    known("wasi:filesystem/types", Needs::Nothing),
    known("wasi:filesystem/preopens", Needs::Nothing),
    known("wasi:io/error", Needs::Nothing),
    known("wasi:io/poll", Needs::Nothing),
    known("wasi:io/streams", Needs::Nothing),
    known("wasi:random/random", Needs::Nothing),
    known("wasi:random/insecure", Needs::Nothing),
    known("wasi:random/insecure-seed", Needs::Nothing),
    known("wasi:sockets/network", Needs::Nothing),
    known("wasi:sockets/instance-network", Needs::Nothing),
    known("wasi:sockets/ip-name-lookup", Needs::Nothing),
    known("wasi:sockets/tcp", Needs::Nothing),
    known("wasi:sockets/tcp-create-socket", Needs::Nothing),
    known("wasi:sockets/udp", Needs::Nothing),
    known("wasi:sockets/udp-create-socket", Needs::Nothing),
];

/// What the host makes of an import's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Import {
    Linked(&'static Known),
    /// Ours, but in a version that is not; `linked` is the name with the version that is.
    OtherVersion {
        linked: String,
    },
    Unknown {
        closest: Option<String>,
    },
}

pub(super) fn classify(import: &str) -> Import {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    match KNOWN.iter().find(|known| known.name == name) {
        Some(known) if agrees(version, linked_version(name)) => Import::Linked(known),
        Some(known) => Import::OtherVersion { linked: with_version(known.name) },
        None => Import::Unknown { closest: closest(name) },
    }
}

fn with_version(name: &str) -> String {
    format!("{name}@{}", linked_version(name))
}

fn linked_version(name: &str) -> &'static str {
    PACKAGES
        .iter()
        .find(|(package, _)| name.split('/').next() == Some(package))
        .map_or("", |(_, version)| version)
}

/// Whether the first two numbers are the same and neither is a pre-release: then the later one has all of the other.
fn agrees(asked: &str, linked: &str) -> bool {
    let series = |version: &str| {
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().ok());
        Some((numbers.next()??, numbers.next()??, numbers.next()??)).map(|(a, b, _)| (a, b))
    };
    series(asked).is_some_and(|asked| Some(asked) == series(linked))
}

fn closest(name: &str) -> Option<String> {
    let interface = |name: &'_ str| name.rsplit('/').next().unwrap_or_default().to_owned();
    KNOWN
        .iter()
        .map(|known| {
            let whole = strsim::normalized_damerau_levenshtein(known.name, name);
            let last =
                strsim::normalized_damerau_levenshtein(&interface(known.name), &interface(name));
            (whole.max(last), known)
        })
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| with_version(known.name))
}

/// Whether a component that uses `function` of `interface` may wait for something outside.
pub(super) fn may_wait(interface: &str, function: &str) -> bool {
    let name = interface.split('@').next().unwrap_or_default();
    match name {
        "wasi:clocks/monotonic-clock" => function.starts_with("subscribe-"),
        "wasi:http/outgoing-handler" => true,
        _ => name.starts_with("wasi:sockets/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_agree_in_two_numbers_are_linked() {
        for (import, linked) in [
            ("tandem:solution/state@0.1.0", true),
            ("tandem:solution/state@0.1.7", true),
            ("tandem:solution/state@0.2.0", false),
            ("tandem:solution/state", false),
            ("wasi:cli/stdout@0.2.0", true),
            ("wasi:cli/stdout@0.2.9", true),
            ("wasi:cli/stdout@0.3.0", false),
            ("wasi:cli/stdout@0.2.0-rc-2023-11-10", false),
        ] {
            assert_eq!(matches!(classify(import), Import::Linked(_)), linked, "{import}");
        }
        let linked = "wasi:cli/stdout@0.2.12".to_owned();
        assert_eq!(classify("wasi:cli/stdout@0.3.0"), Import::OtherVersion { linked });
    }

    #[test]
    fn an_unknown_import_is_told_what_comes_closest() {
        for (import, closest) in [
            ("tandem:solution/stat@0.1.0", Some("tandem:solution/state@0.1.0")),
            ("acme:things/outbox", Some("tandem:solution/outbox@0.1.0")),
            ("wasi:keyvalue/qqqqqqqqqqqqqqqqqqqqqqqq", None),
        ] {
            let closest = closest.map(str::to_owned);
            assert_eq!(classify(import), Import::Unknown { closest }, "{import}");
        }
    }

    #[test]
    fn only_what_leads_outside_may_wait() {
        assert!(may_wait("wasi:http/outgoing-handler@0.2.6", "handle"));
        assert!(may_wait("wasi:clocks/monotonic-clock@0.2.6", "subscribe-duration"));
        assert!(may_wait("wasi:sockets/tcp@0.2.6", "[method]tcp-socket.subscribe"));
        assert!(!may_wait("wasi:clocks/monotonic-clock@0.2.6", "now"));
        assert!(!may_wait("wasi:io/poll@0.2.6", "poll"));
    }
}
