//! Where a connection stands between requests, so that its time limits cost nothing for each request.
//!
//! Each change counts up; a slow timer looks whether anything has changed since it last looked.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The rest of a request's head; also how a connection begins.
    Head,
    /// The service.
    Service,
    /// The next request.
    Idle,
}

/// The phase, and how often it has changed.
#[derive(Debug, Clone, Default)]
pub(super) struct Phases(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Written by the connection's own task only.
    value: AtomicU64,
    is_asked_to_leave: AtomicBool,
    asked_to_leave: Notify,
}

/// Another's view of it.
#[derive(Debug)]
pub(super) struct WeakPhases(Weak<Shared>);

impl WeakPhases {
    pub(super) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Not if it was asked to leave before.
    pub(super) fn is_idle(&self) -> bool {
        self.stays().is_some_and(|phases| phases.now().0 == Phase::Idle)
    }

    pub(super) fn is_at_its_first_head(&self) -> bool {
        self.stays().is_some_and(|phases| phases.is_at_its_first_head())
    }

    pub(super) fn ask_to_leave(&self) {
        if let Some(phases) = self.stays() {
            phases.0.is_asked_to_leave.store(true, Ordering::Relaxed);
            phases.0.asked_to_leave.notify_one();
        }
    }

    fn stays(&self) -> Option<Phases> {
        let shared = self.0.upgrade()?;
        (!shared.is_asked_to_leave.load(Ordering::Relaxed)).then_some(Phases(shared))
    }
}

impl Phases {
    pub(super) fn downgrade(&self) -> WeakPhases {
        WeakPhases(Arc::downgrade(&self.0))
    }

    /// Waits until another needs the connection's place.
    pub(super) async fn asked_to_leave(&self) {
        self.0.asked_to_leave.notified().await;
    }

    /// Whether no request has come whole yet.
    pub(super) fn is_at_its_first_head(&self) -> bool {
        self.now().1 == 0
    }

    /// The phase, and a number that is another after each change.
    pub(super) fn now(&self) -> (Phase, u64) {
        let value = self.0.value.load(Ordering::Relaxed);
        let phase = match value & 3 {
            0 => Phase::Head,
            1 => Phase::Service,
            _ => Phase::Idle,
        };
        (phase, value)
    }

    pub(super) fn set(&self, phase: Phase) {
        let (now, value) = self.now();
        if now != phase {
            let next = (value & !3) + 4 + phase as u64;
            self.0.value.store(next, Ordering::Relaxed);
        }
    }
}

/// A stream on which the first byte after a request begins the next one.
#[derive(Debug)]
pub(super) struct Watched<T> {
    pub(super) stream: T,
    pub(super) phases: Phases,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before && self.phases.now().0 == Phase::Idle {
            self.phases.set(Phase::Head);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_gives_another_number() {
        let phases = Phases::default();
        let mut numbers = vec![phases.now().1];
        assert_eq!(phases.now().0, Phase::Head);
        for phase in [Phase::Service, Phase::Idle, Phase::Head, Phase::Service, Phase::Idle] {
            phases.set(phase);
            assert_eq!(phases.now().0, phase);
            numbers.push(phases.now().1);
            phases.set(phase);
            assert_eq!(phases.now().1, *numbers.last().unwrap(), "no change");
        }
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 6);
    }
}
