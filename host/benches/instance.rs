//! What a message costs in the engine alone: a fresh instance that reads and writes state and asks for one request.
//!
//! `cargo bench -p tandem --bench instance [-- COMPONENT.wasm BODY]`: without a component, one written by hand.

use std::{
    env, fs,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tandem::{
    contract::{
        capability::{Grants, HostPattern, Port, Target},
        handler::{Handler, View, ViewError},
        manifest::{Backoff, Class, Delivery, Handling, Limits, Manifest, Retention, Retry},
    },
    model::{
        message::{Content, Message, MessageId},
        name::Digest,
        outcome::Outcome,
    },
    runtime::{Config, Engine},
};

/// The one that a node runs with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: u32 = 7;
const MESSAGES: u32 = 20_000;

struct OneKey;

impl View for OneKey {
    fn state_get(&self, _key: &str) -> Result<Option<Bytes>, ViewError> {
        Ok(Some(Bytes::from_static(b"12345678")))
    }

    fn state_list(
        &self,
        _prefix: &str,
        _after: Option<&str>,
        _limit: usize,
    ) -> Result<Vec<(String, Bytes)>, ViewError> {
        Ok(Vec::new())
    }

    /// Where the example solutions look for the URL they send to.
    fn setting(&self, name: &str) -> Option<String> {
        matches!(name, "sink" | "crm_url").then(|| "\"https://crm.example.com/v1\"".to_owned())
    }
}

fn manifest() -> Manifest {
    let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_mins(1) };
    let name = |text: &str| text.parse().expect("a name");
    let to = Target::Origin {
        scheme: "https".to_owned(),
        host: HostPattern::Exactly("crm.example.com".to_owned()),
        port: Port::Number(443),
    };
    Manifest {
        name: name("bench"),
        version: "1".to_owned(),
        description: None,
        component: None,
        sources: vec![],
        grants: Grants { outbox: vec![to.clone()], http: vec![to], publish: vec![name("bench")] },
        limits: Limits { time: Duration::from_secs(10), memory: 64 << 20, queue: 10, outbox: 10 },
        handling: Handling::default(),
        retry: Retry { attempts: 5, backoff, ..Retry::default() },
        retention: Retention::default(),
        delivery: Delivery {
            attempts: 5,
            timeout: Duration::from_secs(1),
            backoff,
            class: Class::Idempotent,
        },
    }
}

fn message(body: Vec<u8>) -> Message {
    Message {
        id: MessageId([9; 16]),
        solution: "bench".parse().expect("a name"),
        time_ms: 1_700_000_000_000,
        content: Content {
            source: "hook".parse().expect("a name"),
            headers: vec![("x-trace".to_owned(), b"0123456789abcdef".to_vec())],
            content_type: Some("application/json".to_owned()),
            key: None,
            body: Bytes::from(body),
        },
    }
}

/// Microseconds of processor time a message, of the best of several rounds: the others had more of the machine's noise.
fn best(handler: &dyn Handler, message: &Message) -> f64 {
    (0..ROUNDS)
        .map(|_| {
            let started = processor_time();
            for _ in 0..MESSAGES {
                let handled = handler.handle(message, 1, &OneKey);
                assert!(matches!(handled.outcome, Outcome::Done { .. }), "{handled:?}");
            }
            processor_time().saturating_sub(started).as_secs_f64() * 1e6 / f64::from(MESSAGES)
        })
        .fold(f64::INFINITY, f64::min)
}

/// How long this thread has run: what others do on the machine does not count.
fn processor_time() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts it");
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("its first number"))
}

fn both_at_once(handler: &Arc<dyn Handler>, message: &Message) -> f64 {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| best(&**handler, message));
        }
    });
    f64::from(2 * ROUNDS * MESSAGES) / started.elapsed().as_secs_f64()
}

#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
fn main() {
    let mut args = env::args().skip(1).filter(|arg| arg != "--bench");
    let bytes = match args.next() {
        Some(path) => fs::read(path).expect("a component"),
        None => wat::parse_str(include_str!("instance.wat")).expect("a component"),
    };
    let body = args.next().map_or_else(|| vec![b'x'; 256], String::into_bytes);
    let engine = Engine::new(&Config { cache_dir: None, instances: 16 }).expect("an engine");
    let started = Instant::now();
    let handler = engine.load(Digest::of(&bytes), &bytes, &manifest()).expect("a solution");
    println!("load (compile)        {:>9.1} ms", started.elapsed().as_secs_f64() * 1e3);
    let message = message(body);
    println!(
        "fresh instance + call {:>9.2} us of processor time a message",
        best(&*handler, &message)
    );
    println!(
        "                      {:>9.0} messages/s on two threads",
        both_at_once(&handler, &message)
    );
}
