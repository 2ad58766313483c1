//! Messages over a link, each way on its own.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_rustls::TlsStream;

use super::{
    error::LinkError,
    framing::{self, Decoder},
};
use crate::machine::Stream;

/// So many bytes wait at most until they are sent.
const WAITING_MAX: usize = 64 << 10;
/// A part of a message that is longer is not copied on its way.
const COPIED_MAX: usize = 16 << 10;

/// The half that sends. If it is dropped without [`Self::close`], the other end takes the link for broken.
#[derive(Debug)]
pub struct LinkSender {
    half: WriteHalf<TlsStream<Stream>>,
    /// Not yet sent, after the first `sent` bytes.
    waiting: Vec<u8>,
    sent: usize,
    /// A long part was sent in part, and who sent it was dropped.
    torn: bool,
}

/// The half that receives.
#[derive(Debug)]
pub struct LinkReceiver {
    half: ReadHalf<TlsStream<Stream>>,
    decoder: Decoder,
    most: u32,
}

pub(super) fn split(stream: TlsStream<Stream>, most: u32) -> (LinkSender, LinkReceiver) {
    let (reads, writes) = tokio::io::split(stream);
    let sender = LinkSender { half: writes, waiting: Vec::new(), sent: 0, torn: false };
    (sender, LinkReceiver { half: reads, decoder: Decoder::new(most), most })
}

impl LinkSender {
    /// Sends a message whose payload is `parts`, one after the other. Short messages wait for company until
    /// [`Self::flush`]. A call that is dropped before it ended closes the link.
    pub async fn send(&mut self, kind: u8, parts: &[&[u8]]) -> Result<(), LinkError> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let length = u32::try_from(length)
            .map_err(|_| LinkError::TooLong { length: u32::MAX, most: u32::MAX })?;
        if self.torn {
            return Err(LinkError::Closed { reason: "a message was left half sent".to_owned() });
        }
        self.torn = true;
        self.waiting.extend(framing::head(length, kind));
        for part in parts {
            if part.len() <= COPIED_MAX {
                self.waiting.extend_from_slice(part);
            } else {
                self.send_waiting().await?;
                self.half.write_all(part).await.map_err(|error| LinkError::closed(&error))?;
            }
            if self.waiting.len() >= WAITING_MAX {
                self.send_waiting().await?;
            }
        }
        self.torn = false;
        Ok(())
    }

    /// Sends what waits. May be dropped while it waits and called again.
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        self.send_waiting().await?;
        self.half.flush().await.map_err(|error| LinkError::closed(&error))
    }

    async fn send_waiting(&mut self) -> Result<(), LinkError> {
        while self.sent < self.waiting.len() {
            let written = self.half.write(&self.waiting[self.sent..]).await;
            self.sent += written.map_err(|error| LinkError::closed(&error))?;
        }
        self.waiting.clear();
        self.sent = 0;
        Ok(())
    }

    /// Sends what waits and says goodbye: the other end's [`LinkReceiver::next`] gives none.
    pub async fn close(mut self) -> Result<(), LinkError> {
        self.flush().await?;
        self.half.shutdown().await.map_err(|error| LinkError::closed(&error))
    }
}

impl LinkReceiver {
    /// The next message: its kind and its payload; none if the other end said goodbye. After an error, the same again.
    ///
    /// May be dropped while it waits: no byte is lost. A payload of up to 16 KiB shares a block of memory with its
    /// neighbours and keeps all of it; who keeps it for long copies it.
    pub async fn next(&mut self) -> Result<Option<(u8, Bytes)>, LinkError> {
        loop {
            let came = self.decoder.next();
            if let Some(message) = came.map_err(|long| LinkError::too_long(long, self.most))? {
                return Ok(Some(message));
            }
            let read = self.half.read_buf(&mut self.decoder.room()).await;
            if read.map_err(|error| LinkError::closed(&error))? > 0 {
                continue;
            }
            if self.decoder.is_between_messages() {
                return Ok(None);
            }
            let reason = "it ended in the middle of a message".to_owned();
            return Err(LinkError::Closed { reason });
        }
    }
}
