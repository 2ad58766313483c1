//! Joining: the secret for the keys, over a channel whose far end is the key in the code.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    machine::blocking,
    model::{clock::Clock, pair::PairId},
    net::link::{Fingerprint, LinkError, Stranger},
};

use super::{
    code::Code,
    folder::{FolderError, PairFolder, Shared},
};

/// Kinds of messages. They are spoken by nodes of different versions: never given another meaning.
const JOIN: u8 = 1;
const ANSWER: u8 = 2;
const KEPT: u8 = 3;

/// `JOIN`, in postcard.
#[derive(Serialize, Deserialize)]
struct Ask {
    secret: [u8; 16],
    /// Where the joiner will wait for links, on the address that it comes from.
    port: u16,
}

/// `ANSWER`, in postcard.
#[derive(Serialize, Deserialize)]
enum Answer {
    Welcome {
        pair: PairId,
        witness_token: [u8; 32],
        sealing_key: [u8; 32],
    },
    Refused(Refusal),
    /// The one who invited could not read or write its own folder.
    Unable,
}

/// Why the one who invited does not let somebody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("that node knows no such code: it has made a newer one, or never made this one")]
    Wrong,
    #[error("the code was used already")]
    Used,
    #[error("the code has expired")]
    Expired,
}

/// Who has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    pub pair: PairId,
    pub peer: Fingerprint,
    /// Of the other node, as `host:port`.
    pub address: String,
    /// Whether the one who joined has said that it kept everything. It may have, and died before it said so.
    pub is_confirmed: bool,
}

/// Why nobody has joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("{0}")]
    Refused(Refusal),
    #[error("the node at {address} could not answer; its own log says why")]
    Unable { address: String },
    #[error("{address} said what no node says")]
    Unexpected { address: String },
    #[error("this code is of this very node")]
    OwnCode,
    #[error(
        "this node belongs to the pair {pair} already, with another node than the one that made the code"
    )]
    Paired { pair: PairId },
}

/// Answers somebody who came because of an invitation, within the time that a stranger has. How many are answered at once
/// is for the caller to bound. What is pinned afterwards is on disk: who goes on reads
/// [`PairFolder::peer`] again.
pub async fn answer_join(
    mut stranger: Stranger,
    folder: &PairFolder,
    clock: &Clock,
) -> Result<Joined, JoinError> {
    let from = stranger.address();
    let unexpected = || JoinError::Unexpected { address: from.to_string() };
    let asked = match stranger.hear().await? {
        Some((JOIN, payload)) => postcard::from_bytes::<Ask>(&payload).ok(),
        _ => None,
    };
    let Ask { secret, port } = asked.ok_or_else(unexpected)?;
    let address = SocketAddr::new(from.ip(), port).to_string();
    let peer = stranger.fingerprint();

    let admitted = blocking({
        let (folder, address, now_ms) = (folder.clone(), address.clone(), clock.now_ms());
        move || folder.admit(&secret, now_ms, peer, address)
    });
    let (answer, came) = match admitted.await {
        Ok(Ok(Shared { pair, witness_token, sealing_key })) => {
            (Answer::Welcome { pair, witness_token, sealing_key }, Ok(pair))
        }
        Ok(Err(refusal)) => (Answer::Refused(refusal), Err(JoinError::Refused(refusal))),
        Err(error) => (Answer::Unable, Err(error.into())),
    };
    // From here on the joiner is let in, whether it hears of it or not.
    let heard = async {
        stranger.say(ANSWER, &encode(&answer)).await?;
        stranger.hear().await
    };
    let is_confirmed = matches!(heard.await, Ok(Some((KEPT, _))));
    stranger.leave().await;
    Ok(Joined { pair: came?, peer, address, is_confirmed })
}

/// Joins the node that made `code`, and will wait for links at `port`. Everything is on disk when this returns.
pub async fn join(
    code: &Code,
    folder: &PairFolder,
    port: u16,
    timeout: Duration,
) -> Result<Joined, JoinError> {
    let identity = blocking({
        let folder = folder.clone();
        move || folder.identity_or_new()
    });
    let identity = identity.await?;
    let inviter = code.fingerprint;
    if identity.fingerprint() == inviter {
        return Err(JoinError::OwnCode);
    }
    if let Some(peer) = folder.peer()?
        && !peer.pins.is_empty()
        && !peer.pins.contains(&inviter)
    {
        return Err(JoinError::Paired { pair: peer.pair });
    }
    let is_inviter = move |seen| seen == inviter;
    let mut link = Stranger::dial(&code.address, &identity, is_inviter, timeout).await?;
    link.say(JOIN, &encode(&Ask { secret: code.secret, port })).await?;
    let unexpected = || JoinError::Unexpected { address: code.address.clone() };
    let Some((ANSWER, payload)) = link.hear().await? else { return Err(unexpected()) };
    let shared = match postcard::from_bytes(&payload).map_err(|_| unexpected())? {
        Answer::Welcome { pair, witness_token, sealing_key } => {
            Shared { pair, witness_token, sealing_key }
        }
        Answer::Refused(refusal) => {
            link.leave().await;
            return Err(JoinError::Refused(refusal));
        }
        Answer::Unable => return Err(JoinError::Unable { address: code.address.clone() }),
    };
    let pair = shared.pair;
    let kept = blocking({
        let (folder, address) = (folder.clone(), code.address.clone());
        move || folder.keep(&shared, inviter, address)
    });
    kept.await?;
    let is_confirmed = link.say(KEPT, &[]).await.is_ok();
    link.leave().await;
    Ok(Joined { pair, peer: inviter, address: code.address.clone(), is_confirmed })
}

fn encode(message: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(message).expect("a Vec takes all")
}

#[cfg(test)]
mod tests;
