//! What an attempt says: lines from `log`, from standard output and from standard error, within their bounds.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use crate::{
    contract::handler::{Level, Log, LogLine},
    model::limits::{LOG_LINE_BYTES_MAX, LOG_LINES_MAX},
};

/// The lines of one attempt, shared with its output streams.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    log: Log,
    stdout: Unfinished,
    stderr: Unfinished,
}

/// A line whose end was not written yet; what is beyond its bound is only counted.
#[derive(Debug, Default)]
struct Unfinished {
    bytes: Vec<u8>,
    beyond: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Output {
    Stdout,
    Stderr,
}

impl Lines {
    pub(super) fn push(&self, level: Level, text: &str) {
        self.lock().push(level, text, text.len());
    }

    pub(super) fn output(&self, of: Output) -> OutputLines {
        OutputLines { lines: self.clone(), of }
    }

    /// The lines, with what was written without a line's end as a line of its own.
    pub(super) fn take(&self) -> Log {
        let mut inner = self.lock();
        inner.end_lines();
        std::mem::take(&mut inner.log)
    }

    /// Looks at the lines so far.
    pub(super) fn look<R>(&self, look: impl FnOnce(&Log) -> R) -> R {
        let mut inner = self.lock();
        inner.end_lines();
        look(&inner.log)
    }

    /// A lock because the streams live in the component's resource table; no two threads ever meet here.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn push(&mut self, level: Level, text: &str, size: usize) {
        if self.log.lines.len() >= LOG_LINES_MAX {
            self.log.dropped = self.log.dropped.saturating_add(1);
        } else {
            self.log.lines.push(LogLine { level, text: bounded(text, size) });
        }
    }

    fn write(&mut self, of: Output, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.unfinished(of).add(&bytes[..end]);
            self.end_line(of);
            bytes = &bytes[end + 1..];
        }
        self.unfinished(of).add(bytes);
    }

    fn end_lines(&mut self) {
        self.end_line(Output::Stdout);
        self.end_line(Output::Stderr);
    }

    fn end_line(&mut self, of: Output) {
        let Unfinished { bytes, beyond } = std::mem::take(self.unfinished(of));
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end();
        if !text.is_empty() {
            let level = match of {
                Output::Stdout => Level::Info,
                Output::Stderr => Level::Warn,
            };
            self.push(level, text, bytes.len() + beyond);
        }
    }

    fn unfinished(&mut self, of: Output) -> &mut Unfinished {
        match of {
            Output::Stdout => &mut self.stdout,
            Output::Stderr => &mut self.stderr,
        }
    }
}

impl Unfinished {
    fn add(&mut self, bytes: &[u8]) {
        let room = (LOG_LINE_BYTES_MAX + 1).saturating_sub(self.bytes.len()).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..room]);
        self.beyond += bytes.len() - room;
    }
}

/// `text`, the beginning of `size` bytes, cut to a line's bound; its last words say how much is missing.
fn bounded(text: &str, size: usize) -> String {
    if text.len() <= LOG_LINE_BYTES_MAX {
        return text.to_owned();
    }
    let kept = &text[..text.floor_char_boundary(LOG_LINE_BYTES_MAX - 40)];
    format!("{kept}… and {} bytes more", size - kept.len())
}

/// Standard output or standard error of a component.
#[derive(Debug, Clone)]
pub(super) struct OutputLines {
    lines: Lines,
    of: Output,
}

/// The most that a component may hand over at once, in bytes.
const WRITE_BYTES_MAX: usize = 64 << 10;

impl IsTerminal for OutputLines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for OutputLines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for OutputLines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.lines.lock().write(self.of, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl Pollable for OutputLines {
    /// Always ready.
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(std::future::ready(()))
    }
}

impl AsyncWrite for OutputLines {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.lines.lock().write(self.of, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(parts: &[(Output, &str)]) -> Vec<(Level, String)> {
        let lines = Lines::default();
        for (of, text) in parts {
            lines.output(*of).write(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        }
        lines.take().lines.into_iter().map(|line| (line.level, line.text)).collect()
    }

    #[test]
    fn output_becomes_lines_and_the_two_streams_do_not_mix() {
        let lines = written(&[
            (Output::Stdout, "one\ntw"),
            (Output::Stderr, "oh"),
            (Output::Stdout, "o\n\n  \nthree"),
            (Output::Stderr, " no\r\n"),
        ]);
        let expected = [
            (Level::Info, "one"),
            (Level::Info, "two"),
            (Level::Warn, "oh no"),
            (Level::Info, "three"),
        ];
        assert_eq!(lines, expected.map(|(level, text)| (level, text.to_owned())));
    }

    #[test]
    fn a_long_line_is_cut_and_says_by_how_much() {
        let long = "ä".repeat(LOG_LINE_BYTES_MAX);
        for (_, text) in written(&[(Output::Stdout, &long), (Output::Stdout, "\n")]) {
            assert!(text.len() <= LOG_LINE_BYTES_MAX, "{}", text.len());
            let kept = text.find('…').unwrap();
            assert!(text.ends_with(&format!("… and {} bytes more", long.len() - kept)), "{text}");
        }
    }

    #[test]
    fn lines_beyond_the_bound_are_counted() {
        let lines = Lines::default();
        for _ in 0..LOG_LINES_MAX + 3 {
            lines.push(Level::Debug, "again");
        }
        let log = lines.take();
        assert_eq!((log.lines.len(), log.dropped), (LOG_LINES_MAX, 3));
    }
}
