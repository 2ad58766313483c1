//! `solution.toml` to a [`Manifest`], with every default and every fault.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use super::{
    Backoff, Blocks, Class, Delivery, Handling, KeySource, Limits, Manifest, Order, Retention,
    Retry, Source, SourceKind,
};
use crate::{
    contract::{
        capability::{Grants, Target},
        schedule::{Missed, Schedule, ScheduleError},
        toml_reader::{Document, Problem, Table, units::show_duration},
    },
    model::{limits, name::Name},
};

mod webhook;

pub use crate::contract::toml_reader::{Fault as ManifestError, Faults as ManifestErrors};

const CONCURRENCY_MAX: u64 = 64;
const BREAKER_MAX: u64 = 10_000;
const QUEUE_MAX: u64 = 100_000_000;
const MEMORY_BYTES_MIN: u64 = 1 << 20;
const ATTEMPTS: Range<u64> = 1..100;
const DELIVERY_TIMEOUT_MAX: Duration = Duration::from_mins(10);
const MAX_BACKOFF_MAX: Duration = Duration::from_hours(24);
const RETENTION: Range<Duration> = Duration::from_mins(1)..Duration::from_hours(100 * 366 * 24);
const GIB: u64 = 1 << 30;
const RETENTION_SIZE: Range<u64> = (1 << 20)..(1 << 40);
const MILLISECOND: Duration = Duration::from_millis(1);

const TARGETS_EXAMPLE: &str = r#"["https://crm.example.com"]"#;

/// Reads a manifest. All of its faults come back at once, as of a file `solution.toml`.
pub fn parse(text: &str) -> Result<Manifest, ManifestErrors> {
    Document::parse(text)
        .and_then(|document| {
            let manifest = read_manifest(&document);
            document.finish(manifest)
        })
        .map_err(|faults| faults.in_file("solution.toml"))
}

fn read_manifest(document: &Document<'_>) -> Option<Manifest> {
    let mut root = document.root();
    let name = root.required("name", r#""lead-router""#, str::parse);
    let version = root.required("version", r#""0.1.0""#, read_version);
    let description = root.string("description", r#""Routes leads to the CRM""#);
    let component = root.parsed("component", r#""lead_router.wasm""#, read_component);
    let sources = read_sources(&mut root, document);
    let grants = read_grants(root.table("grants"));
    let limits = read_limits(root.table("limits"));
    let handling = read_handling(root.table("handling"));
    let retry = read_retry(root.table("retry"));
    let delivery = read_delivery(root.table("delivery"));
    let retention = read_retention(root.table("retention"));
    root.finish();
    Some(Manifest {
        name: name?,
        version: version?,
        description: description.map(|found| found.value.to_owned()),
        component,
        sources,
        grants,
        limits,
        handling,
        retry,
        delivery,
        retention,
    })
}

fn read_version(text: &str) -> Result<String, &'static str> {
    let fits = (1..=64).contains(&text.chars().count())
        && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    if fits {
        Ok(text.to_owned())
    } else {
        Err("a version has 1 to 64 characters and no spaces, for example `0.1.0`")
    }
}

fn read_component(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.contains('\0') {
        Err("`component` is the path of a .wasm file, relative to this file")
    } else {
        Ok(text.to_owned())
    }
}

fn read_sources(root: &mut Table<'_>, document: &Document<'_>) -> Vec<Source> {
    let tables = root.tables("source");
    if tables.is_empty() && root.span_of("source").is_none() {
        root.missing("source", r#"[[source]] name = "leads" kind = "webhook""#);
    }
    let mut lines = BTreeMap::new();
    let mut sources = Vec::with_capacity(tables.len());
    for mut table in tables {
        let name: Option<Name> = table.required("name", r#""leads""#, str::parse);
        if let (Some(name), Some(span)) = (&name, table.span_of("name")) {
            let line = document.line(&span);
            let first_line = *lines.entry(name.clone()).or_insert(line);
            if first_line != line {
                let problem = Problem::Duplicate { name: name.to_string(), first_line };
                table.fault("name", &span, problem);
            }
        }
        if let (Some(name), Some(kind)) = (name, read_kind(table)) {
            sources.push(Source { name, kind });
        }
    }
    sources
}

#[derive(Clone, Copy)]
enum Kind {
    Webhook,
    Schedule,
    Message,
}

fn read_kind(mut table: Table<'_>) -> Option<SourceKind> {
    let words =
        [("webhook", Kind::Webhook), ("schedule", Kind::Schedule), ("message", Kind::Message)];
    if table.span_of("kind").is_none() {
        table.missing("kind", r#"kind = "webhook""#);
    }
    // Without its kind, nothing can be said of a source's other keys.
    let kind = match table.one_of("kind", &words)? {
        Kind::Webhook => webhook::read(&mut table).map(SourceKind::Webhook),
        Kind::Schedule => read_schedule(&mut table).map(SourceKind::Schedule),
        Kind::Message => Some(SourceKind::Message),
    };
    webhook::misplaced(&mut table);
    table.misplaced("cron", "it is for sources of kind `schedule`");
    table.misplaced("timezone", "it is for sources of kind `schedule`");
    table.misplaced("missed", "it is for sources of kind `schedule`");
    table.finish();
    kind
}

fn read_schedule(table: &mut Table<'_>) -> Option<Schedule> {
    let cron = table.required("cron", r#""*/5 * * * *""#, |text| Ok::<_, String>(text.to_owned()));
    let timezone = table.string("timezone", r#""Europe/Berlin""#);
    let words = [("skip", Missed::Skip), ("once", Missed::Once), ("all", Missed::All)];
    let missed = table.one_of("missed", &words).unwrap_or_default();
    let zone = timezone.as_ref().map_or("UTC", |found| found.value);
    match (Schedule::parse(&cron?, zone), timezone) {
        (Ok(schedule), _) => Some(schedule.missed(missed)),
        (Err(error @ ScheduleError::Timezone { .. }), Some(found)) => {
            table.fault("timezone", &found.span, Problem::Invalid(error.to_string()));
            None
        }
        (Err(error), _) => {
            let span = table.span_of("cron").unwrap_or_default();
            table.fault("cron", &span, Problem::Invalid(error.to_string()));
            None
        }
    }
}

fn read_grants(mut table: Table<'_>) -> Grants {
    let grants = Grants {
        outbox: table.list("outbox", TARGETS_EXAMPLE, str::parse::<Target>),
        http: table.list("http", TARGETS_EXAMPLE, str::parse::<Target>),
        publish: table.list("publish", r#"["audit"]"#, str::parse::<Name>),
    };
    table.finish();
    grants
}

fn read_limits(mut table: Table<'_>) -> Limits {
    let memory = MEMORY_BYTES_MIN..limits::MEMORY_BYTES_MAX;
    let limits = Limits {
        time: table.duration(
            "time",
            limits::HANDLE_TIME_DEFAULT,
            MILLISECOND..limits::HANDLE_TIME_MAX,
        ),
        memory: table.size("memory", limits::MEMORY_BYTES_DEFAULT, memory),
        queue: table.integer("queue", limits::QUEUE_DEFAULT, 1..QUEUE_MAX),
        outbox: table.integer("outbox", limits::OUTBOX_DEFAULT, 1..QUEUE_MAX),
    };
    table.finish();
    limits
}

fn read_handling(mut table: Table<'_>) -> Handling {
    #[derive(Clone, Copy, PartialEq)]
    enum Word {
        Acceptance,
        Key,
        None,
    }
    let words = [("acceptance", Word::Acceptance), ("key", Word::Key), ("none", Word::None)];
    let key = table.parsed("order_by", r#""header:x-customer""#, read_key_source);
    let default = if key.is_some() { Word::Key } else { Word::Acceptance };
    let word = table.one_of("order", &words).unwrap_or(default);
    if let (true, Some(span)) = (key.is_some() && word != Word::Key, table.span_of("order")) {
        let problem = "with `order_by` the order is `key`; leave out one of the two".to_owned();
        table.fault("order", &span, Problem::Invalid(problem));
    }
    let concurrency = table.integer("concurrency", 1, 1..CONCURRENCY_MAX);
    if let (true, Some(span)) =
        (concurrency > 1 && word == Word::Acceptance, table.span_of("concurrency"))
    {
        let problem =
            "in order of acceptance messages are handled one at a time; give `order_by`, \
                       or `order = \"none\"`"
                .to_owned();
        table.fault("concurrency", &span, Problem::Invalid(problem));
    }
    table.finish();
    let order = match word {
        Word::Acceptance => Order::Acceptance,
        Word::Key => Order::Key(key.unwrap_or(KeySource::Key)),
        Word::None => Order::None,
    };
    let concurrency = usize::try_from(concurrency).expect("CONCURRENCY_MAX is small");
    Handling { order, concurrency }
}

fn read_key_source(text: &str) -> Result<KeySource, String> {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    match text.strip_prefix("header:") {
        Some(name) if is_name(name) => Ok(KeySource::Header(name.to_ascii_lowercase())),
        None if text.starts_with('/') => Ok(KeySource::Pointer(text.to_owned())),
        None if text == "key" => Ok(KeySource::Key),
        _ => Err(format!(
            "`{text}` is neither `key`, nor `header:NAME`, nor a JSON pointer as in `/customer/id`"
        )),
    }
}

fn read_retry(mut table: Table<'_>) -> Retry {
    let blocks = [("key", Blocks::Key), ("nothing", Blocks::Nothing)];
    let breaker = table.integer("breaker", Retry::default().breaker.into(), 0..BREAKER_MAX);
    let retry = Retry {
        attempts: read_attempts(&mut table, Retry::default().attempts),
        backoff: read_backoff(&mut table),
        blocks: table.one_of("blocks", &blocks).unwrap_or(Blocks::Nothing),
        breaker: u32::try_from(breaker).expect("BREAKER_MAX is small"),
    };
    table.finish();
    retry
}

fn read_retention(mut table: Table<'_>) -> Retention {
    let time = table.duration("time", Retention::default().time, RETENTION);
    let size = table.span_of("size").map(|_| table.size("size", GIB, RETENTION_SIZE));
    table.finish();
    Retention { time, size }
}

fn read_delivery(mut table: Table<'_>) -> Delivery {
    let timeout = MILLISECOND..DELIVERY_TIMEOUT_MAX;
    let classes = [
        ("idempotent", Class::Idempotent),
        ("at-most-once", Class::AtMostOnce),
        ("ask", Class::Ask),
    ];
    let delivery = Delivery {
        attempts: read_attempts(&mut table, Delivery::default().attempts),
        timeout: table.duration("timeout", Delivery::default().timeout, timeout),
        backoff: read_backoff(&mut table),
        class: table.one_of("class", &classes).unwrap_or(Delivery::default().class),
    };
    table.finish();
    delivery
}

fn read_attempts(table: &mut Table<'_>, default: u32) -> u32 {
    let attempts = table.integer("attempts", default.into(), ATTEMPTS);
    u32::try_from(attempts).expect("ATTEMPTS ends far below u32's end")
}

fn read_backoff(table: &mut Table<'_>) -> Backoff {
    let first = table.duration("backoff", Backoff::default().first, MILLISECOND..MAX_BACKOFF_MAX);
    let max = table.duration("max_backoff", Backoff::default().max, MILLISECOND..MAX_BACKOFF_MAX);
    let said = table.span_of("max_backoff").or_else(|| table.span_of("backoff"));
    if let (true, Some(span)) = (first > max, said) {
        let (first, max) = (show_duration(first), show_duration(max));
        let problem = format!("`max_backoff` ({max}) must not be shorter than `backoff` ({first})");
        table.fault("max_backoff", &span, Problem::Invalid(problem));
    }
    Backoff { first, max }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{
        capability::{HostPattern, Port},
        manifest::webhook::{OnceBy, Webhook},
    };

    const SMALLEST: &str = r#"
name = "lead-router"
version = "0.1.0"
[[source]]
name = "leads"
kind = "webhook"
"#;

    fn fails(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    /// The faults of [`SMALLEST`] with `more` after it.
    fn fails_with(more: &str) -> String {
        fails(&format!("{SMALLEST}{more}\n"))
    }

    fn fails_once(more: &str, says: &str) {
        let shown = fails_with(more);
        assert!(shown.contains(says), "{more}: {shown}");
        assert_eq!(shown.matches("solution.toml:").count(), 1, "{more}: {shown}");
    }

    #[test]
    fn a_small_manifest_has_every_default() {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_mins(5) };
        assert_eq!(
            parse(SMALLEST).unwrap(),
            Manifest {
                name: "lead-router".parse().unwrap(),
                version: "0.1.0".to_owned(),
                description: None,
                component: None,
                sources: vec![Source {
                    name: "leads".parse().unwrap(),
                    kind: SourceKind::Webhook(Webhook {
                        max_body: 1 << 20,
                        once_by: OnceBy::Auto,
                        once_window: Duration::from_hours(7 * 24),
                        signature: None,
                    }),
                }],
                grants: Grants::default(),
                limits: Limits {
                    time: Duration::from_secs(10),
                    memory: 64 << 20,
                    queue: 100_000,
                    outbox: 100_000,
                },
                handling: Handling::default(),
                retry: Retry { attempts: 5, backoff, ..Retry::default() },
                delivery: Delivery {
                    attempts: 10,
                    timeout: Duration::from_secs(30),
                    backoff,
                    class: Class::Idempotent,
                },
                retention: Retention { time: Duration::from_hours(720), size: None },
            }
        );
    }

    #[test]
    fn a_manifest_that_says_everything() {
        let manifest = parse(
            r#"
name = "lead-router"
version = "2026-01-31+a"
description = "Routes leads"
component = "target/lead_router.wasm"

[[source]]
name = "leads"
kind = "webhook"
max_body = "16MiB"

[[source]]
name = "every-night"
kind = "schedule"
cron = "0 30 2 * * *"
timezone = "Europe/Berlin"

[[source]]
name = "from-others"
kind = "message"

[grants]
outbox = ["https://*.example.com", "setting:crm-url"]
http = ["http://127.0.0.1:*"]
publish = ["audit", "lead-router"]

[limits]
time = "500ms"
memory = "1GiB"
queue = 1_000
outbox = 2_000

[retry]
attempts = 1
backoff = "10ms"
max_backoff = "1h"

[delivery]
class = "at-most-once"
attempts = 100
timeout = "10m"
backoff = "2s"
max_backoff = "2s"

[retention]
time = "7d"
size = "2GiB"
"#,
        )
        .unwrap();
        assert_eq!(manifest.component.as_deref(), Some("target/lead_router.wasm"));
        assert_eq!(manifest.description.as_deref(), Some("Routes leads"));
        let leads = &manifest.source("leads").unwrap().kind;
        assert!(matches!(leads, SourceKind::Webhook(webhook) if webhook.max_body == 16 << 20));
        let night = Schedule::parse("0 30 2 * * *", "Europe/Berlin").unwrap();
        assert_eq!(manifest.source("every-night").unwrap().kind, SourceKind::Schedule(night));
        assert_eq!(manifest.source("from-others").unwrap().kind, SourceKind::Message);
        let below = Target::Origin {
            scheme: "https".to_owned(),
            host: HostPattern::Below("example.com".to_owned()),
            port: Port::Number(443),
        };
        assert_eq!(manifest.grants.outbox, [below, Target::Setting("crm-url".parse().unwrap())]);
        assert_eq!(manifest.grants.publish.len(), 2);
        assert_eq!(
            manifest.limits,
            Limits { time: Duration::from_millis(500), memory: 1 << 30, queue: 1000, outbox: 2000 }
        );
        let backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_hours(1) };
        assert_eq!(manifest.retry, Retry { attempts: 1, backoff, ..Retry::default() });
        let backoff = Backoff { first: Duration::from_secs(2), max: Duration::from_secs(2) };
        let timeout = Duration::from_mins(10);
        let class = Class::AtMostOnce;
        assert_eq!(manifest.delivery, Delivery { attempts: 100, timeout, backoff, class });
        let (time, size) = (Duration::from_hours(7 * 24), Some(2 << 30));
        assert_eq!(manifest.retention, Retention { time, size });
    }

    #[test]
    fn faults_are_shown_all_at_once_where_they_are() {
        let errors = parse(
            r#"name = "Lead Router"
version = 1
[[source]]
name = "tick"
kind = "schedule"
cron = "0 25 * * *"
[limits]
tiem = "10s"
"#,
        )
        .unwrap_err()
        .in_file("lead/solution.toml");
        assert_eq!(
            errors.to_string(),
            r#"lead/solution.toml:1:8: `Lead Router` is no name: use 1 to 63 of a-z, 0-9, - and _, beginning with a letter
  |
1 | name = "Lead Router"
  |        ^^^^^^^^^^^^^

lead/solution.toml:2:11: expected a string such as `"0.1.0"`, found an integer
  |
2 | version = 1
  |           ^

lead/solution.toml:6:8: `25` is no hour; use 0 to 23, with `*`, `,`, `-` and `/`
  |
6 | cron = "0 25 * * *"
  |        ^^^^^^^^^^^^

lead/solution.toml:8:1: `tiem` is no key of [limits], did you mean `time`?; its keys are time, memory, queue, outbox
  |
8 | tiem = "10s"
  | ^^^^"#
        );
        let keys: Vec<_> = errors.list().iter().map(|error| error.key.as_str()).collect();
        assert_eq!(keys, ["name", "version", "source[0].cron", "limits.tiem"]);
    }

    #[test]
    fn wrong_syntax_is_shown_alone() {
        let shown = fails("name = \nversion = \"1\n");
        assert!(shown.starts_with("solution.toml:1:8: this is no TOML: "), "{shown}");
        assert!(shown.contains("solution.toml:2:"), "{shown}");
        assert!(!shown.contains("is missing"), "{shown}");
        let shown = fails("name = \"a\"\nname = \"b\"\n");
        assert!(shown.starts_with("solution.toml:2:1: this is no TOML: duplicate key"), "{shown}");
    }

    #[test]
    fn what_must_be_there_is_asked_for() {
        for (text, says) in [
            ("", "1:1: `name` is missing, for example `name = \"lead-router\"`"),
            ("", "1:1: `version` is missing"),
            ("", "1:1: `source` is missing, for example `[[source]]"),
            ("\n\n [[source]]\nkind = \"message\"", "3:2: `name` is missing"),
            (
                "[[source]]\nname = \"a\"",
                "1:1: `kind` is missing, for example `kind = \"webhook\"`",
            ),
            ("[[source]]\nname = \"a\"\nkind = \"schedule\"", "1:1: `cron` is missing"),
        ] {
            let shown = fails(text);
            assert!(shown.contains(says), "{text}: {shown}");
        }
    }

    #[test]
    fn every_wrong_value_says_what_is_right() {
        for (more, says) in [
            // Keys that are not known, or not here.
            (
                "[grant]",
                "7:2: `grant` is no key of this file, did you mean `grants`?; its keys are name, version, description, component, source, grants, limits, handling, retry, delivery",
            ),
            (
                "[limits]\nxyzzy = 1",
                "`xyzzy` is no key of [limits]; its keys are time, memory, queue, outbox",
            ),
            ("max-body = 1", "7:1: `max-body` is no key of [source[0]], did you mean `max_body`?"),
            (
                "cron = \"* * * * *\"",
                "7:1: `cron` has no place here: it is for sources of kind `schedule`",
            ),
            (
                "[[source]]\nname = \"x\"\nkind = \"message\"\nmax_body = 1",
                "10:1: `max_body` has no place here: it is for sources of kind `webhook`",
            ),
            // Wrong types.
            ("[limits]\ntime = true", "expected a duration such as `\"10s\"`, found a boolean"),
            ("[limits]\nmemory = 1.5", "expected a size such as `\"64MiB\"`, found a float"),
            ("[limits]\nqueue = \"10\"", "expected an integer such as `100000`, found a string"),
            ("[[limits]]", "expected a table such as `[limits]`, found an array"),
            (
                "[grants]\noutbox = \"https://x.example\"",
                "expected an array of strings such as `[\"https://crm.example.com\"]`, found a string",
            ),
            (
                "[grants]\npublish = [\"a\", 7]",
                "expected a string such as `[\"audit\"]`, found an integer",
            ),
            // Units and ranges.
            (
                "[limits]\ntime = 10",
                "8:8: `10` has no unit; use ms, s, m, h or d, for example `\"10s\"`",
            ),
            ("[limits]\ntime = \"10\"", "`10` has no unit"),
            ("[limits]\ntime = \"10sec\"", "`sec` is no unit"),
            ("[limits]\ntime = \"0s\"", "`time` must be at least 1ms and at most 10m"),
            ("[limits]\ntime = \"11m\"", "`time` must be at least 1ms and at most 10m"),
            (
                "[limits]\nmemory = \"64MB\"",
                "`MB` is no unit; use B, KiB, MiB or GiB, for example `\"64MiB\"`",
            ),
            ("[limits]\nmemory = \"2GiB\"", "`memory` must be at least 1MiB and at most 1GiB"),
            ("[limits]\nmemory = 65536", "`memory` must be at least 1MiB"),
            ("[limits]\nqueue = 0", "`queue` must be at least 1 and at most 100000000"),
            ("[limits]\nqueue = -1", "`queue` must be at least 1"),
            ("max_body = \"17MiB\"", "`max_body` must be at least 1B and at most 16MiB"),
            ("[retry]\nattempts = 0", "`attempts` must be at least 1 and at most 100"),
            ("[delivery]\nattempts = 101", "`attempts` must be at least 1 and at most 100"),
            ("[delivery]\ntimeout = \"1h\"", "`timeout` must be at least 1ms and at most 10m"),
            ("[retry]\nmax_backoff = \"25h\"", "`max_backoff` must be at least 1ms and at most 1d"),
            (
                "[retry]\nbackoff = \"10m\"",
                "8:11: `max_backoff` (5m) must not be shorter than `backoff` (10m)",
            ),
            (
                "[retry]\nmax_backoff = \"1ms\"",
                "8:15: `max_backoff` (1ms) must not be shorter than `backoff` (1s)",
            ),
        ] {
            fails_once(more, says);
        }
    }

    #[test]
    fn every_wrong_source_and_grant_says_what_is_right() {
        for (more, says) in [
            // Sources.
            (
                "[[source]]\nname = \"leads\"\nkind = \"message\"",
                "8:8: `leads` is already on line 5",
            ),
            (
                "[[source]]\nname = \"x\"\nkind = \"hook\"",
                "9:8: `hook` is none of `webhook`, `schedule`, `message`",
            ),
            ("[[source]]\nname = \"A\"\nkind = \"message\"", "8:8: `A` is no name"),
            (
                "[[source]]\nname = \"x\"\nkind = \"schedule\"\ncron = \"* *\"",
                "10:8: a cron line has five fields",
            ),
            (
                "[[source]]\nname = \"x\"\nkind = \"schedule\"\ncron = \"0 0 30 2 *\"",
                "10:8: `0 0 30 2 *` names a day that never comes",
            ),
            (
                "[[source]]\nname = \"x\"\nkind = \"schedule\"\ncron = \"* * * * *\"\ntimezone = \"Berlin\"",
                "11:12: `Berlin` is no time zone, did you mean `Europe/Berlin`?",
            ),
            (
                "[[source]]\nname = \"x\"\nkind = \"schedule\"\ncron = \"* * * * *\"\nmissed = \"some\"",
                "11:10: `some` is none of `skip`, `once`, `all`",
            ),
            (
                "missed = \"all\"",
                "7:1: `missed` has no place here: it is for sources of kind `schedule`",
            ),
            // Grants.
            (
                "[grants]\noutbox = [\"https://ok.example\", \"https://x.example/a\"]",
                "8:33: `https://x.example/a` is no target: a target is a scheme, a host and a port",
            ),
            (
                "[grants]\nhttp = [\"x.example\"]",
                "8:9: `x.example` is no target: write `https://host`",
            ),
            ("[grants]\npublish = [\"No\"]", "8:12: `No` is no name"),
        ] {
            fails_once(more, says);
        }
        let shown = fails("name = \"a\"\nversion = \"a b\"\ncomponent = \"\"\nsource = 7");
        assert!(shown.contains("2:11: a version has 1 to 64 characters and no spaces"), "{shown}");
        assert!(shown.contains("3:13: `component` is the path of a .wasm file"), "{shown}");
        assert!(
            shown.contains("4:10: expected an array of tables such as `[[source]]`"),
            "{shown}"
        );
    }

    #[test]
    fn orders_are_read_and_contradictions_are_said() {
        let read = |text: &str| parse(&format!("{SMALLEST}{text}")).map(|m| m.handling);
        let key = |source, concurrency| Handling { order: Order::Key(source), concurrency };
        assert_eq!(read("").unwrap(), Handling::default());
        let pointer = KeySource::Pointer("/customer/id".into());
        assert_eq!(
            read("[handling]\norder_by = \"/customer/id\"\nconcurrency = 8").unwrap(),
            key(pointer, 8)
        );
        let header = KeySource::Header("x-customer".into());
        assert_eq!(read("[handling]\norder_by = \"header:X-Customer\"").unwrap(), key(header, 1));
        assert_eq!(read("[handling]\norder = \"key\"").unwrap(), key(KeySource::Key, 1));
        let none = Handling { order: Order::None, concurrency: 4 };
        assert_eq!(read("[handling]\norder = \"none\"\nconcurrency = 4").unwrap(), none);
        for (more, says) in [
            (
                "[handling]\nconcurrency = 2",
                "8:15: in order of acceptance messages are handled one at a time",
            ),
            (
                "[handling]\norder = \"none\"\norder_by = \"key\"",
                "8:9: with `order_by` the order is `key`",
            ),
            ("[handling]\norder_by = \"customer\"", "8:12: `customer` is neither"),
            ("[handling]\norder_by = \"header:\"", "8:12: `header:` is neither"),
            ("[handling]\norder = \"fifo\"", "8:9: `fifo` is none of"),
            ("[retry]\nblocks = \"all\"", "8:10: `all` is none of `key`, `nothing`"),
        ] {
            fails_once(more, says);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it(text in r#"([a-z]{0,3}|[\[\]{}=".,#'\n\r\t ü0-9-]|name|source|kind|grants|outbox|limits|time){0,40}"#) {
            let _ = parse(&text).map_err(|errors| errors.to_string());
            let _ = parse(&format!("{SMALLEST}{text}")).map_err(|errors| errors.to_string());
        }
    }
}
