//! `tandem pair invite --wait`: answers who joins, for a node that does not run.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::Instant};

use crate::{
    model::clock::Clock,
    net::{
        keys::{self, JoinError, Joined, PairFolder},
        link::{Acceptor, AcceptorConfig, Arrival, Trust},
    },
};

use super::{Output, of_folder, of_join, tell};
use crate::cli::exit::{Exit, Failure};

const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// Who wants to join, at once; each takes 10 s at most.
const AT_ONCE: usize = 64;
/// For others who came at the same time, so that they hear why they are too late.
const GOODBYES: Duration = Duration::from_secs(1);

pub(super) async fn invite(
    folder: &PairFolder,
    address: &str,
    listen: SocketAddr,
    valid: Duration,
    output: Output,
) -> Result<(), Failure> {
    let identity = folder.identity_or_new().map_err(of_folder)?;
    let inviting = folder.clone();
    let config = AcceptorConfig {
        is_inviting: Arc::new(move || inviting.is_inviting(Clock::system().now_ms())),
        ..AcceptorConfig::default()
    };
    let acceptor = match Acceptor::bind(listen, &identity, &Trust::default(), config).await {
        Ok(acceptor) => Some(acceptor),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
        Err(error) => {
            return Err(Failure::failed("listen", format!("cannot listen at {listen}: {error}")));
        }
    };
    let port = acceptor.as_ref().and_then(|acceptor| acceptor.local_address().ok());
    let address = match (address.strip_suffix(":0"), port) {
        (Some(host), Some(bound)) => format!("{host}:{}", bound.port()),
        _ => address.to_owned(),
    };
    let until = Instant::now() + valid;
    super::invite(folder, &address, valid, output)?;
    let joined = if let Some(acceptor) = acceptor {
        output.note(format_args!("waiting at {listen} until somebody has joined"));
        tokio::time::timeout_at(until, answer(acceptor, folder, output)).await
    } else {
        output.note(format_args!(
            "{listen} is in use: if by this node, it answers who joins; waiting until somebody has"
        ));
        tokio::time::timeout_at(until, look(folder)).await
    };
    let late =
        |_| Failure::new(Exit::TimedOut, "expired", "nobody has joined; the code has expired");
    tell(&joined.map_err(late)??, output)
}

/// Answers all who come, until one has joined.
async fn answer(
    mut acceptor: Acceptor,
    folder: &PairFolder,
    output: Output,
) -> Result<Joined, Failure> {
    let mut answers = JoinSet::new();
    loop {
        tokio::select! {
            arrival = acceptor.accept(), if answers.len() < AT_ONCE => {
                // No key is pinned here; who comes as a peer is early.
                let Arrival::Stranger(stranger) = arrival else { continue };
                let folder = folder.clone();
                answers.spawn(async move {
                    let from = stranger.address();
                    (from, keys::answer_join(stranger, &folder, &Clock::system()).await)
                });
            }
            Some(answered) = answers.join_next() => match answered.expect("nothing in it panics") {
                (_, Ok(joined)) => {
                    let others = async { while answers.join_next().await.is_some() {} };
                    let _ = tokio::time::timeout(GOODBYES, others).await;
                    return Ok(joined);
                }
                (_, Err(error @ JoinError::Folder(_))) => return Err(of_join(error, folder)),
                (from, Err(error)) => output.note(format_args!("{from} did not join: {error}")),
            }
        }
    }
}

/// Looks until the code is used, whoever answers.
async fn look(folder: &PairFolder) -> Result<Joined, Failure> {
    loop {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        let is_used = folder.invitation().map_err(of_folder)?.is_none_or(|invited| invited.used);
        let peer = folder.peer().map_err(of_folder)?;
        if let (true, Some(peer)) = (is_used, peer)
            && let Some(&pin) = peer.pins.first()
        {
            let address = peer.address.unwrap_or_default();
            return Ok(Joined { pair: peer.pair, peer: pin, address, is_confirmed: false });
        }
    }
}
