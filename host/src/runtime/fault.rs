//! What an attempt that did not end by itself came to: an error of wasmtime becomes an outcome.

use std::{collections::BTreeSet, time::Duration};

use wasmtime::{FrameInfo, PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::{
    contract::handler::{Level, Log, ViewError},
    model::{limits::REASON_BYTES_MAX, outcome::Outcome},
};

/// What is known besides the error.
#[derive(Debug)]
pub(super) struct Circumstances<'a> {
    pub(super) time: Duration,
    pub(super) memory_bytes: u64,
    /// Whether the component was refused memory.
    pub(super) memory_was_refused: bool,
    pub(super) log: &'a Log,
}

/// The outcome for `error`, which ended an attempt.
pub(super) fn outcome(error: &wasmtime::Error, circumstances: &Circumstances<'_>) -> Outcome {
    if let Some(fault) = error.downcast_ref::<ViewError>() {
        return Outcome::Unavailable { reason: fault.to_string() };
    }
    if let Some(fault) = error.downcast_ref::<PoolConcurrencyLimitError>() {
        return Outcome::Unavailable { reason: fault.to_string() };
    }
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::Interrupt) {
        return Outcome::TimedOut { limit: circumstances.time };
    }
    if circumstances.memory_was_refused {
        return Outcome::OutOfMemory { limit_bytes: circumstances.memory_bytes };
    }
    let backtrace = backtrace(error);
    let reason = match (trap, error.downcast_ref::<I32Exit>()) {
        (_, Some(I32Exit(status))) => format!("it called exit with status {status}"),
        (Some(Trap::UnreachableCodeReached), _) => {
            panic_text(circumstances.log).unwrap_or_else(|| {
                "it reached code that it calls unreachable, as after a panic".to_owned()
            })
        }
        (Some(Trap::StackOverflow), _) => STACK_OVERFLOW.to_owned(),
        (Some(Trap::MemoryOutOfBounds), _) if is_deep_recursion(&backtrace) => {
            STACK_OVERFLOW.to_owned()
        }
        (Some(trap), _) => trap.to_string(),
        (None, _) => format!("it broke the contract: {}", error.root_cause()),
    };
    Outcome::Trapped { reason: cut(reason), backtrace }
}

const STACK_OVERFLOW: &str = "stack overflow: its calls are nested too deeply";

/// Whether the innermost frames are a few functions over and over. Languages such as Rust keep a stack of their own
/// at the bottom of the memory, and run out of it by reaching below the first byte.
fn is_deep_recursion(backtrace: &[String]) -> bool {
    const FRAMES: usize = 20;
    const CYCLE_MAX: usize = 4;
    let innermost: Option<BTreeSet<&String>> = backtrace.get(..FRAMES).map(|f| f.iter().collect());
    innermost.is_some_and(|functions| functions.len() <= CYCLE_MAX)
}

/// What Rust's standard library writes to standard error in a panic, in one line.
fn panic_text(log: &Log) -> Option<String> {
    let at = log
        .lines
        .iter()
        .rposition(|line| line.level == Level::Warn && line.text.contains("panicked at "))?;
    let (_, place) = log.lines[at].text.split_once("panicked at ")?;
    let message = log.lines.get(at + 1).filter(|line| line.level == Level::Warn);
    let message = message.map_or("", |line| line.text.as_str());
    Some(format!("it panicked at {place} {message}").trim_end().to_owned())
}

fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let frames = error.downcast_ref::<WasmBacktrace>().map_or(&[][..], WasmBacktrace::frames);
    let mut room = REASON_BYTES_MAX;
    frames
        .iter()
        .flat_map(lines_of)
        .take_while(|line| {
            let fits = line.len() <= room;
            room = room.saturating_sub(line.len());
            fits
        })
        .collect()
}

/// `function at file:line`, one for the frame and one for each function inlined into it.
fn lines_of(frame: &FrameInfo) -> Vec<String> {
    let own_name = || match frame.func_name() {
        Some(name) => demangled(name),
        None => format!("function {}", frame.func_index()),
    };
    if frame.symbols().is_empty() {
        return vec![own_name()];
    }
    let line = |symbol: &wasmtime::FrameSymbol| {
        let name = symbol.name().map_or_else(own_name, demangled);
        match (symbol.file(), symbol.line()) {
            (Some(file), Some(line)) => format!("{name} at {file}:{line}"),
            (Some(file), None) => format!("{name} at {file}"),
            (None, _) => name,
        }
    };
    frame.symbols().iter().map(line).collect()
}

fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// `text`, at most as long as a reason may be.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > REASON_BYTES_MAX {
        text.truncate(text.floor_char_boundary(REASON_BYTES_MAX - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::handler::LogLine;

    fn outcome_of(error: impl Into<wasmtime::Error>, log: &[&str]) -> Outcome {
        let line = |text: &&str| LogLine { level: Level::Warn, text: (*text).to_owned() };
        let log = Log { lines: log.iter().map(line).collect(), dropped: 0 };
        let circumstances = Circumstances {
            time: Duration::from_secs(1),
            memory_bytes: 1 << 20,
            memory_was_refused: false,
            log: &log,
        };
        outcome(&error.into(), &circumstances)
    }

    #[test]
    fn a_panic_is_told_in_its_own_words() {
        let log = [
            "thread '<unnamed>' panicked at src/lib.rs:7:5:",
            "no such customer",
            "note: run with RUST_BACKTRACE",
        ];
        let reason = outcome_of(Trap::UnreachableCodeReached, &log).reason().unwrap();
        assert_eq!(reason, "it panicked at src/lib.rs:7:5: no such customer");
        let reason = outcome_of(Trap::UnreachableCodeReached, &["hello"]).reason().unwrap();
        assert!(reason.contains("unreachable"), "{reason}");
    }

    #[test]
    fn faults_of_the_host_are_not_the_components() {
        let outcome = outcome_of(ViewError("closed".to_owned()), &[]);
        let reason = "the store could not be read: closed".to_owned();
        assert_eq!(outcome, Outcome::Unavailable { reason });
    }

    #[test]
    fn running_out_of_a_stack_in_memory_is_a_stack_overflow() {
        let lines = |names: &[&str], times| -> Vec<String> {
            names.repeat(times).into_iter().map(str::to_owned).collect()
        };
        assert!(is_deep_recursion(&lines(&["f"], 64)));
        assert!(is_deep_recursion(&lines(&["f", "g"], 10)));
        assert!(!is_deep_recursion(&lines(&["f"], 3)));
        assert!(!is_deep_recursion(&lines(&["a", "b", "c", "d", "e", "f"], 10)));
    }

    #[test]
    fn reasons_are_bounded_and_stay_text() {
        assert_eq!(cut("short".to_owned()), "short");
        let long = cut("ä".repeat(REASON_BYTES_MAX));
        assert!(long.len() <= REASON_BYTES_MAX && long.ends_with("ä…"), "{}", long.len());
    }

    #[test]
    fn names_are_demangled_without_their_hash() {
        assert_eq!(
            demangled("_ZN4core9panicking5panic17h0123456789abcdefE"),
            "core::panicking::panic"
        );
        assert_eq!(demangled("plain"), "plain");
    }
}
