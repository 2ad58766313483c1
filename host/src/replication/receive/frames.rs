//! Frames of the primary: kept, or not, if this program does not know them.

use bytes::Bytes;

use super::{Hearing, made_later};
use crate::{
    replication::{About, Session, SessionError, wire},
    store::{
        frame::{Frame, FrameError},
        replicate::OrderError,
    },
};

/// Frames that are taken together, in bytes.
const TOGETHER: usize = 4 << 20;

impl Hearing {
    /// Takes a frame and those that have come right behind it.
    pub(super) async fn take_frames(&mut self, payload: &Bytes) -> Result<(), SessionError> {
        let first = wire::read_frame(payload)?;
        let (epoch, mut shown) = (first.epoch, first.shown);
        let mut bytes = first.frame.len();
        let mut frames = vec![(first.before, first.frame)];
        while bytes < TOGETHER {
            let Some(more) = self.already().await? else { break };
            if more.0 != wire::FRAME {
                self.put_back = Some(more);
                break;
            }
            let more = wire::read_frame(&more.1)?;
            bytes += more.frame.len();
            shown = shown.max(more.shown);
            frames.push((more.before, more.frame));
        }
        if !self.obeys(epoch).await {
            // Of one who does not know yet that it is primary no more.
            return Ok(());
        }
        let is_later = |frame: &Bytes| Frame::decode(frame).is_ok_and(|f| f.position.epoch > epoch);
        if frames.iter().any(|(_, frame)| is_later(frame)) {
            return Err(made_later(epoch));
        }
        match self.session.store.take(frames, shown).await {
            Ok((position, chain)) => {
                self.session.notices.clear(About::Frames);
                self.session.notices.clear(About::Refusal);
                self.agreed = Some((position, chain));
                self.has(epoch, position, chain).await;
                Ok(())
            }
            Err(OrderError::Unknown(error)) => Err(self.stop_before(&error).await),
            Err(error) => Err(error.into()),
        }
    }

    /// The frame is kept nowhere here: this program would have to skip what it does not know.
    async fn stop_before(&self, error: &FrameError) -> SessionError {
        let Session { own: _, store, notices, .. } = &self.session;
        let head = store.journal_head().0;
        let why = format!("{error}, {}", env!("CARGO_PKG_VERSION"));
        tracing::error!(
            why, %head,
            "this standby stops before a frame of the other node, which a newer program made: upgrade this node"
        );
        let notice = format!(
            "This node stopped behind frame {head}, because it does not know what comes next ({why}): upgrade it. \
             Until then it is not in sync and cannot take over."
        );
        notices.set(About::Frames, &notice);
        self.refuse(&format!("it cannot take the next frame ({why}); upgrade that node")).await;
        SessionError::Unknown(why)
    }

    /// A message that is here already.
    async fn already(&mut self) -> Result<Option<(u8, Bytes)>, SessionError> {
        tokio::select! {
            biased;
            message = self.receiver.next() => Ok(Some(message?.ok_or(SessionError::Closed)?)),
            () = std::future::ready(()) => Ok(None),
        }
    }
}
