//! Whole components: each refusal of `check`, each way an attempt ends, and the cache.

use std::{fs, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Config, Engine, LoadError,
    component_fault::ComponentFault,
    fixture::{self, HANDLE, TableView, solution, solution_with, target},
    pool,
};
use crate::{
    contract::{
        capability::Grants,
        handler::{Effects, Handled, Handler, Level},
        manifest::{Backoff, Class, Delivery, Handling, Limits, Manifest, Retry},
    },
    model::{
        limits::COMPONENT_BYTES_MAX,
        message::{Content, Message, MessageId},
        name::Digest,
        outcome::{Outcome, Reply},
    },
};

fn engine() -> Engine {
    Engine::new(&Config { cache_dir: None, instances: 4 }).unwrap()
}

fn manifest() -> Manifest {
    let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_mins(1) };
    Manifest {
        name: "probe".parse().unwrap(),
        version: "1".to_owned(),
        description: None,
        component: None,
        sources: vec![],
        grants: Grants::default(),
        limits: Limits { time: Duration::from_secs(20), memory: 4 << 20, queue: 10, outbox: 10 },
        handling: Handling::default(),
        retry: Retry { attempts: 5, backoff, ..Retry::default() },
        delivery: Delivery {
            attempts: 5,
            timeout: Duration::from_secs(1),
            backoff,
            class: Class::Idempotent,
        },
        retention: crate::contract::manifest::Retention::default(),
    }
}

fn message(body: &'static [u8]) -> Message {
    Message {
        id: MessageId([9; 16]),
        solution: "probe".parse().unwrap(),
        time_ms: 1_700_000_000_000,
        content: Content {
            source: "hook".parse().unwrap(),
            headers: vec![("x-a".to_owned(), b"1".to_vec())],
            content_type: Some("text/plain".to_owned()),
            key: None,
            body: Bytes::from_static(body),
        },
    }
}

fn load(engine: &Engine, bytes: &[u8]) -> Arc<dyn Handler> {
    load_with(engine, bytes, &manifest())
}

fn load_with(engine: &Engine, bytes: &[u8], manifest: &Manifest) -> Arc<dyn Handler> {
    engine.load(Digest::of(bytes), bytes, manifest).unwrap_or_else(|error| panic!("{error}"))
}

fn handle(handler: &dyn Handler) -> Handled {
    handler.handle(&message(b"hello"), 1, &TableView::default())
}

fn run(core: &str) -> Handled {
    handle(&*load(&engine(), &solution(core)))
}

fn faults(manifest: &Manifest, bytes: &[u8]) -> Vec<ComponentFault> {
    match engine().check(manifest, bytes) {
        Ok(checked) => panic!("not refused: {checked:?}"),
        Err(faults) => faults,
    }
}

fn fault(bytes: &[u8]) -> ComponentFault {
    let mut faults = faults(&manifest(), bytes);
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.remove(0)
}

#[test]
fn a_message_goes_in_and_a_reply_comes_out() {
    let core = format!(
        r#"(data (i32.const 1028) "\00") (data (i32.const 2000) "x-b") (data (i32.const 2010) "2")
        {HANDLE}
        (i32.store8 (i32.const 1032) (i32.const 1))
        (i32.store16 (i32.const 1036) (i32.const 201))
        (i32.store (i32.const 1040) (i32.const 2020)) (i32.store (i32.const 1044) (i32.const 1))
        (i32.store (i32.const 2020) (i32.const 2000)) (i32.store (i32.const 2024) (i32.const 3))
        (i32.store (i32.const 2028) (i32.const 2010)) (i32.store (i32.const 2032) (i32.const 1))
        (i32.store (i32.const 1060) (local.get $body)) (i32.store (i32.const 1064) (local.get $size))
        (i32.const 1024))"#
    );
    let expected = Reply {
        status: 201,
        headers: vec![("x-b".to_owned(), b"2".to_vec())],
        content_type: None,
        body: Bytes::from_static(b"hello"),
    };
    assert_eq!(run(&core).outcome, Outcome::Done { reply: Some(expected) });
}

#[test]
fn a_reply_that_breaks_the_contract_is_refused_with_its_effects() {
    let core = format!(
        "{HANDLE} {SET_K}
        (i32.store8 (i32.const 1032) (i32.const 1)) (i32.store16 (i32.const 1036) (i32.const 99))
        (i32.const 1024)) {KEY}"
    );
    let handled = run(&core);
    let reason = handled.outcome.reason().unwrap();
    assert!(reason.contains("its status is 99"), "{reason}");
    assert_eq!(handled.effects, Effects::default());
}

/// Sets the key `k` to `value`, its result at 3000.
const SET_K: &str =
    "(call $set (i32.const 2000) (i32.const 1) (i32.const 2001) (i32.const 5) (i32.const 3000))";
const KEY: &str = r#"(data (i32.const 2000) "kvalue")"#;

#[test]
fn what_an_attempt_wrote_it_reads_and_hands_on_when_done() {
    // Replies with what `get` gives for the key it has just set: a result at 3104, an option at 3112.
    let core = format!(
        "{KEY} {HANDLE} {SET_K}
        (call $get (i32.const 2000) (i32.const 1) (i32.const 3104))
        (i32.store8 (i32.const 1032) (i32.load8_u (i32.const 3112)))
        (i32.store16 (i32.const 1036) (i32.const 200))
        (i32.store (i32.const 1060) (i32.load (i32.const 3116)))
        (i32.store (i32.const 1064) (i32.load (i32.const 3120)))
        (i32.const 1024))"
    );
    let handled = run(&core);
    let Outcome::Done { reply: Some(reply) } = handled.outcome else {
        panic!("{:?}", handled.outcome)
    };
    assert_eq!(reply.body, "value");
    let written = ("k".to_owned(), Some(Bytes::from_static(b"value")));
    assert_eq!(handled.effects.state, [written]);
}

#[test]
fn each_failure_is_told_apart_and_keeps_nothing() {
    let failing = |case: u8| {
        let core = format!(
            r#"{KEY} (data (i32.const 2100) "why") {HANDLE} {SET_K}
            (i32.store8 (i32.const 1024) (i32.const 1)) (i32.store8 (i32.const 1032) (i32.const {case}))
            (i32.store (i32.const 1040) (i32.const 2100)) (i32.store (i32.const 1044) (i32.const 3))
            (i32.store8 (i32.const 1048) (i32.const 1)) (i64.store (i32.const 1056) (i64.const 1500))
            (i32.const 1024))"#
        );
        let handled = run(&core);
        assert_eq!(handled.effects, Effects::default());
        handled.outcome
    };
    let reason = "why".to_owned();
    let after = Some(Duration::from_millis(1500));
    assert_eq!(failing(0), Outcome::Retry { reason: reason.clone(), after });
    assert_eq!(failing(1), Outcome::Rejected { reason: reason.clone() });
    assert_eq!(failing(2), Outcome::Failed { reason });
}

#[test]
fn a_value_that_breaks_the_contract_is_a_trap_that_says_so() {
    let out_of_range =
        run(&format!("{HANDLE} (i32.store8 (i32.const 1024) (i32.const 7)) (i32.const 1024))"));
    let reason = out_of_range.outcome.reason().unwrap();
    assert_eq!(out_of_range.outcome.word(), "trapped");
    assert!(reason.starts_with("it broke the contract: "), "{reason}");

    let no_text = run(&format!(
        r#"(data (i32.const 2100) "\ff\fe") {HANDLE}
        (i32.store8 (i32.const 1024) (i32.const 1)) (i32.store8 (i32.const 1032) (i32.const 1))
        (i32.store (i32.const 1040) (i32.const 2100)) (i32.store (i32.const 1044) (i32.const 2))
        (i32.const 1024))"#
    ));
    let reason = no_text.outcome.reason().unwrap();
    assert!(reason.contains("utf-8"), "{reason}");

    let nowhere = run(&format!("{HANDLE} (i32.const -8))"));
    assert_eq!(nowhere.outcome.word(), "trapped");
}

#[test]
fn a_loop_is_cut_at_its_limit_and_the_next_message_is_fine() {
    let engine = engine();
    let limits = Limits { time: Duration::from_millis(50), ..manifest().limits };
    let core = format!("{HANDLE} (loop (br 0)) (unreachable))");
    let looping = load_with(&engine, &solution(&core), &Manifest { limits, ..manifest() });
    let handled = handle(&*looping);
    assert_eq!(handled.outcome, Outcome::TimedOut { limit: Duration::from_millis(50) });
    assert!(handled.duration >= Duration::from_millis(50), "{:?}", handled.duration);
    assert!(handled.duration < Duration::from_secs(5), "{:?}", handled.duration);
    assert_eq!(handle(&*load(&engine, &fixture::done())).outcome, Outcome::Done { reply: None });
}

#[test]
fn a_recursion_without_end_is_a_stack_overflow() {
    let core = format!("(func $down (call $down)) {HANDLE} (call $down) (i32.const 1024))");
    let Outcome::Trapped { reason, backtrace } = run(&core).outcome else { panic!("no trap") };
    assert!(reason.contains("stack overflow"), "{reason}");
    assert!(backtrace.len() <= 64 && backtrace[0] == "down", "{backtrace:?}");
}

#[test]
fn a_trap_keeps_nothing_and_names_its_functions() {
    let core = format!(
        "{KEY} (func $broken (unreachable)) {HANDLE} {SET_K} (call $broken) (i32.const 1024))"
    );
    let handled = run(&core);
    let Outcome::Trapped { reason, backtrace } = handled.outcome else { panic!("no trap") };
    assert!(reason.contains("unreachable"), "{reason}");
    assert_eq!(backtrace, ["broken", "handle"]);
    assert_eq!(handled.effects, Effects::default());
}

#[test]
fn memory_left_by_one_message_is_not_seen_by_the_next() {
    // Fails if the byte it leaves behind is there already.
    let core = format!(
        "{HANDLE} (if (i32.load8_u (i32.const 90000)) (then (unreachable)))
        (i32.store8 (i32.const 90000) (i32.const 1)) (i32.const 1024))"
    );
    let handler = load(&engine(), &solution(&core));
    for _ in 0..50 {
        assert_eq!(handle(&*handler).outcome, Outcome::Done { reply: None });
    }
}

#[test]
fn memory_beyond_the_limit_is_told_as_such() {
    let core = format!(
        "{HANDLE} (if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then (unreachable)))
        (i32.const 1024))"
    );
    let limit_bytes = manifest().limits.memory;
    assert_eq!(run(&core).outcome, Outcome::OutOfMemory { limit_bytes });
}

#[test]
fn who_gets_by_without_the_memory_is_done() {
    let core = format!("{HANDLE} (drop (memory.grow (i32.const 100))) (i32.const 1024))");
    assert_eq!(run(&core).outcome, Outcome::Done { reply: None });
}

#[test]
fn the_memory_limit_is_for_all_memories_together() {
    // Two memories that may each be 4 MiB grow by 40 pages each: 2 × 2.5 MiB is more than 4 MiB.
    let items = r#"(core module $Grows (memory 1)
        (func (export "grow") (result i32) (memory.grow (i32.const 40))))
      (core instance $a (instantiate $Grows)) (core instance $b (instantiate $Grows))"#;
    let component = |second: &str| {
        fixture::wat(&format!(
            r#"(component {types} {items}
            (core module $Main
              (import "a" "grow" (func $a (result i32))) (import "b" "grow" (func $b (result i32)))
              (memory (export "memory") 1)
              (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
              {HANDLE}
                (if (i32.eq (call $a) (i32.const -1)) (then (unreachable)))
                (if (i32.eq (call ${second}) (i32.const -1)) (then (unreachable)))
                (i32.const 1024)))
            (core instance $main (instantiate $Main (with "a" (instance $a)) (with "b" (instance $b))))
            (func (export "handle") (param "message" $message)
              (result (result (option $reply) (error $failure)))
              (canon lift (core func $main "handle") (memory (core memory $main "memory")) (realloc (core func $main "realloc")))))"#,
            types = fixture::TYPES,
        ))
    };
    let limit_bytes = manifest().limits.memory;
    let handled = handle(&*load(&engine(), &component("b")));
    assert_eq!(handled.outcome, Outcome::OutOfMemory { limit_bytes });
}

#[test]
fn log_lines_are_kept_also_when_it_fails() {
    let core = format!(
        r#"(data (i32.const 2100) "so far so good") {HANDLE}
        (call $log (i32.const 3) (i32.const 2100) (i32.const 14)) (unreachable))"#
    );
    let handled = run(&core);
    assert_eq!(handled.outcome.word(), "trapped");
    assert_eq!(handled.log.lines.len(), 1);
    assert_eq!(
        (handled.log.lines[0].level, &*handled.log.lines[0].text),
        (Level::Error, "so far so good")
    );
}

#[test]
fn a_store_that_cannot_be_read_is_no_fault_of_the_component() {
    let core = format!(
        "{KEY} {HANDLE} (call $get (i32.const 2000) (i32.const 1) (i32.const 3104)) (i32.const 1024))"
    );
    let view = TableView { is_broken: true, ..TableView::default() };
    let handled = load(&engine(), &solution(&core)).handle(&message(b""), 1, &view);
    let reason = "the store could not be read: the disk is gone".to_owned();
    assert_eq!(handled.outcome, Outcome::Unavailable { reason });
}

#[test]
fn more_handlers_than_places_wait_for_each_other() {
    let engine = Engine::new(&Config { cache_dir: None, instances: 1 }).unwrap();
    let handler = load(&engine, &fixture::done());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(handle(&*handler).outcome, Outcome::Done { reply: None });
                }
            });
        }
    });
}

/// Sleeps for so many nanoseconds.
fn sleeping(nanos: u64) -> Vec<u8> {
    waiting(&format!("(call $block (call $subscribe (i64.const {nanos})))"))
}

/// Imports a sleep from WASI, so that it runs on a fiber.
fn waiting(body: &str) -> Vec<u8> {
    let items = r#"
      (import "wasi:io/poll@0.2.6" (instance $poll
        (export "pollable" (type $p (sub resource)))
        (export "[method]pollable.block" (func (param "self" (borrow $p))))))
      (alias export $poll "pollable" (type $pollable))
      (import "wasi:clocks/monotonic-clock@0.2.6" (instance $clock
        (alias outer 1 $pollable (type $p1))
        (export "pollable" (type $p (eq $p1)))
        (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
      (core func $block (canon lower (func $poll "[method]pollable.block")))
      (core func $subscribe (canon lower (func $clock "subscribe-duration")))"#;
    fixture::wat(&format!(
        r#"(component {types} {items}
        (core module $Main
          (import "w" "block" (func $block (param i32)))
          (import "w" "subscribe" (func $subscribe (param i64) (result i32)))
          (memory (export "memory") 1)
          (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
          {HANDLE} {body} (i32.const 1024)))
        (core instance $main (instantiate $Main (with "w" (instance
          (export "block" (func $block)) (export "subscribe" (func $subscribe))))))
        (func (export "handle") (param "message" $message)
          (result (result (option $reply) (error $failure)))
          (canon lift (core func $main "handle") (memory (core memory $main "memory")) (realloc (core func $main "realloc")))))"#,
        types = fixture::TYPES,
    ))
}

#[test]
fn who_may_wait_waits_and_is_cut_at_the_limit() {
    let engine = engine();
    let limits = Limits { time: Duration::from_millis(60), ..manifest().limits };
    let short = Manifest { limits, ..manifest() };
    assert!(engine.check(&short, &sleeping(1)).unwrap().may_wait);
    let brief = load_with(&engine, &sleeping(1_000_000), &manifest());
    assert!(brief.may_wait());
    assert_eq!(handle(&*brief).outcome, Outcome::Done { reply: None });
    let long = load_with(&engine, &sleeping(3_600_000_000_000), &short);
    let handled = handle(&*long);
    assert_eq!(handled.outcome, Outcome::TimedOut { limit: Duration::from_millis(60) });
    assert!(handled.duration < Duration::from_secs(5), "{:?}", handled.duration);
    assert_eq!(handle(&*brief).outcome, Outcome::Done { reply: None });
    let looping = load_with(&engine, &waiting("(loop (br 0))"), &short);
    let handled = handle(&*looping);
    assert_eq!(handled.outcome, Outcome::TimedOut { limit: Duration::from_millis(60) });
    assert!(handled.duration < Duration::from_secs(5), "{:?}", handled.duration);
}

#[test]
fn components_of_many_memories_wait_rather_than_fail() {
    let engine = Engine::new(&Config { cache_dir: None, instances: 4 }).unwrap();
    let many =
        format!("(core module $M (memory 1)) {}", "(core instance (instantiate $M))".repeat(7));
    let bytes = solution_with(&many, &format!("{HANDLE} (i32.const 1024))"));
    let handler = load(&engine, &bytes);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(handle(&*handler).outcome, Outcome::Done { reply: None });
                }
            });
        }
    });
}

#[test]
fn a_good_component_passes_and_unused_grants_are_warned_of() {
    let checked = engine().check(&manifest(), &fixture::done()).unwrap();
    assert!(checked.warnings.is_empty() && !checked.may_wait);
    assert_eq!(checked.imports, ["tandem:solution/types@0.1.0"]);
    let grants = Grants {
        outbox: vec![target("https", "a.example", 443)],
        publish: vec!["x".parse().unwrap()],
        ..Grants::default()
    };
    let checked = engine().check(&Manifest { grants, ..manifest() }, &fixture::done()).unwrap();
    assert_eq!(checked.warnings.len(), 2);
    assert!(checked.warnings[0].contains("`outbox`"), "{:?}", checked.warnings);
}

#[test]
fn what_is_no_component_is_refused() {
    assert_eq!(fault(b""), ComponentFault::Empty);
    assert_eq!(fault(b"  (component)"), ComponentFault::Text);
    assert_eq!(fault(&fixture::wat("(module)")), ComponentFault::CoreModule);
    assert_eq!(
        fault(b"\x7fELF\x02\x01\x01\x00more"),
        ComponentFault::NotWasm { begins: b"\x7fELF\x02\x01\x01\x00".to_vec() }
    );
    let size_bytes = COMPONENT_BYTES_MAX + 1;
    assert_eq!(fault(&vec![0; size_bytes]), ComponentFault::TooLarge { size_bytes });
    let compiled = engine().wasm().precompile_component(&fixture::done()).unwrap();
    assert_eq!(fault(&compiled), ComponentFault::Precompiled);
    let mut damaged = fixture::done();
    damaged.truncate(damaged.len() - 3);
    assert!(matches!(fault(&damaged), ComponentFault::Compile { .. }));
}

#[test]
fn imports_that_are_not_here_are_refused_all_at_once() {
    let items = r#"
      (import "tandem:solution/stat@0.1.0" (instance))
      (import "tandem:solution/log@0.2.0" (instance))
      (import "tandem:solution/outbox@0.1.0" (instance))
      (import "tandem:solution/publish@0.1.0" (instance))
      (import "wasi:http/outgoing-handler@0.2.6" (instance))
      (import "acme:zzzzzzzz/qqqqqqqqq" (instance))"#;
    let bytes = solution_with(items, &format!("{HANDLE} (i32.const 1024))"));
    let not_granted =
        |import: &str, grant| ComponentFault::NotGranted { import: import.to_owned(), grant };
    let found = faults(&manifest(), &bytes);
    let expected = [
        ComponentFault::UnknownImport {
            import: "tandem:solution/stat@0.1.0".to_owned(),
            closest: Some("tandem:solution/state@0.1.0".to_owned()),
        },
        ComponentFault::OtherVersion {
            import: "tandem:solution/log@0.2.0".to_owned(),
            linked: "tandem:solution/log@0.1.0".to_owned(),
        },
        not_granted("tandem:solution/outbox@0.1.0", "outbox"),
        not_granted("tandem:solution/publish@0.1.0", "publish"),
        not_granted("wasi:http/outgoing-handler@0.2.6", "http"),
        ComponentFault::UnknownImport {
            import: "acme:zzzzzzzz/qqqqqqqqq".to_owned(),
            closest: None,
        },
    ];
    assert_eq!(found, expected);
    for fault in &found {
        assert!(fault.fix().is_some() && !fault.to_string().is_empty());
    }
    assert!(found[2].fix().unwrap().contains("outbox = ["));
    let refused = engine().load(Digest::of(&bytes), &bytes, &manifest());
    assert!(matches!(refused, Err(LoadError::Refused(faults)) if faults == expected));
}

#[test]
fn an_import_of_another_shape_is_refused() {
    let items = r#"(import "tandem:solution/settings@0.1.0" (instance
        (export "get" (func (param "name" u32) (result u32)))))"#;
    let bytes = solution_with(items, &format!("{HANDLE} (i32.const 1024))"));
    assert!(matches!(fault(&bytes), ComponentFault::Link { .. }));
}

#[test]
fn a_component_without_the_right_handle_is_refused() {
    let bytes = fixture::wat(
        r#"(component (core module $M (func (export "f")))
        (core instance $m (instantiate $M)) (func (export "run") (canon lift (core func $m "f"))))"#,
    );
    assert_eq!(fault(&bytes), ComponentFault::NoHandle { found: vec!["run".to_owned()] });
    let bytes = fixture::wat(
        r#"(component (core module $M (func (export "f")))
        (core instance $m (instantiate $M)) (func (export "handle") (canon lift (core func $m "f"))))"#,
    );
    let fault = fault(&bytes);
    assert!(matches!(fault, ComponentFault::OtherHandle { .. }), "{fault}");
    assert!(fault.fix().unwrap().contains("handle: func(message: message)"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let core = format!("{HANDLE} (i32.const 1024))");
    let bytes =
        solution_with("(core module $Big (memory 65)) (core instance (instantiate $Big))", &core);
    let needs_bytes = 65 << 16;
    let limit_bytes = manifest().limits.memory;
    assert_eq!(fault(&bytes), ComponentFault::MemoryLimit { needs_bytes, limit_bytes });
    let nine = "(core instance (instantiate $One))".repeat(9);
    let bytes = solution_with(&format!("(core module $One (memory 1)) {nine}"), &core);
    assert!(matches!(fault(&bytes), ComponentFault::Compile { reason } if reason.contains("10 ")));
    // Each memory fits the limit, both together do not: only starting it shows that.
    let two = "(core module $H (memory 40)) (core instance (instantiate $H)) (core instance (instantiate $H))";
    let fault = fault(&solution_with(two, &core));
    assert!(matches!(fault, ComponentFault::Start { .. }), "{fault}");
}

#[test]
fn without_a_pool_the_same_is_refused_and_the_same_runs() {
    let config = Config { cache_dir: None, instances: 2 };
    let engine = Engine::on(wasmtime::Engine::new(&pool::on_demand()).unwrap(), &config).unwrap();
    let core = format!("{HANDLE} (i32.const 1024))");
    let many =
        format!("(core module $M (memory 1)) {}", "(core instance (instantiate $M))".repeat(9));
    let refused = engine.check(&manifest(), &solution_with(&many, &core)).unwrap_err();
    assert_eq!(refused, [ComponentFault::DoesNotFit { what: "memories", count: 10, max: 8 }]);
    let table = "(core module $M (table 100001 funcref)) (core instance (instantiate $M))";
    let refused = engine.check(&manifest(), &solution_with(table, &core)).unwrap_err();
    assert!(matches!(refused[..], [ComponentFault::DoesNotFit { count: 100_001, .. }]));
    assert_eq!(handle(&*load(&engine, &fixture::done())).outcome, Outcome::Done { reply: None });
}

#[test]
fn a_component_that_does_not_start_is_refused() {
    let core = format!("(func $start (unreachable)) (start $start) {HANDLE} (i32.const 1024))");
    assert!(matches!(fault(&solution_with("", &core)), ComponentFault::Start { .. }));
    let core = format!("(func $start (loop (br 0))) (start $start) {HANDLE} (i32.const 1024))");
    let fault = fault(&solution_with("", &core));
    assert!(
        matches!(&fault, ComponentFault::Start { reason } if reason.contains("longer")),
        "{fault}"
    );
}

fn only_file(dir: &Path) -> std::path::PathBuf {
    let files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn compiled_code_is_used_again_and_damage_is_noticed() {
    use std::os::unix::fs::PermissionsExt;

    let dir = tempfile::tempdir().unwrap();
    let cache_dir = dir.path().join("compiled");
    let config = Config { cache_dir: Some(cache_dir.clone()), instances: 2 };
    let engine = Engine::new(&config).unwrap();
    load(&engine, &fixture::done());
    assert_eq!(fs::metadata(&cache_dir).unwrap().permissions().mode() & 0o777, 0o700);
    let file = only_file(&cache_dir);
    let whole = fs::read(&file).unwrap();

    // A file that is not written again was used.
    let written = fs::metadata(&file).unwrap().modified().unwrap();
    let again = load(&Engine::new(&config).unwrap(), &fixture::done());
    assert_eq!(handle(&*again).outcome, Outcome::Done { reply: None });
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), written);

    let middle = whole.len() / 2;
    let flipped = [&whole[..middle], &[whole[middle] ^ 1], &whole[middle + 1..]].concat();
    for damaged in [&flipped[..], &whole[..middle], b"", b"tandem compiled\n"] {
        fs::write(&file, damaged).unwrap();
        let handler = load(&Engine::new(&config).unwrap(), &fixture::done());
        assert_eq!(handle(&*handler).outcome, Outcome::Done { reply: None });
        assert_eq!(fs::read(&file).unwrap(), whole, "not compiled again");
    }
}

#[test]
fn the_code_of_another_component_is_not_taken_for_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { cache_dir: Some(dir.path().to_owned()), instances: 2 };
    let engine = Engine::new(&config).unwrap();
    let core = format!("{HANDLE} (unreachable))");
    let traps = solution_with("", &core);
    load(&engine, &traps);
    let code = only_file(dir.path());
    let name = code.file_name().unwrap().to_str().unwrap();
    let other =
        name.replace(&Digest::of(&traps).to_string(), &Digest::of(&fixture::done()).to_string());
    fs::rename(&code, dir.path().join(other)).unwrap();
    let handler = load(&engine, &fixture::done());
    assert_eq!(handle(&*handler).outcome, Outcome::Done { reply: None });
}

#[test]
fn code_of_other_engines_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join(format!("{}-0123456789abcdef.compiled", Digest::of(b"x")));
    let foreign = dir.path().join("readme.txt");
    fs::write(&old, "x").unwrap();
    fs::write(&foreign, "x").unwrap();
    Engine::new(&Config { cache_dir: Some(dir.path().to_owned()), instances: 1 }).unwrap();
    assert!(!old.exists() && foreign.exists());
}

#[test]
fn bytes_of_another_digest_are_refused() {
    let bytes = fixture::done();
    let expected = Digest::of(b"other");
    let refused = engine().load(expected, &bytes, &manifest());
    assert!(matches!(refused, Err(LoadError::OtherBytes { .. })));
}
