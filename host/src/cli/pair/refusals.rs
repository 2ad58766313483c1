//! Why two nodes are no pair, and what to do about it.

use crate::{
    cli::exit::{Exit, Failure},
    net::{
        keys::{FolderError, JoinError, PairFolder, Refusal},
        link::LinkError,
    },
};

const ANOTHER_CODE: &str = "make a new code there with `tandem pair invite`, and join with that";

pub(super) fn of_folder(error: FolderError) -> Failure {
    let code = match error {
        FolderError::File { .. } => "file",
        FolderError::Open { .. } => "pair-key-open",
        FolderError::Key { .. } | FolderError::Damaged { .. } => "pair-folder-damaged",
        FolderError::Missing { .. } => "pair-file-missing",
    };
    Failure::failed(code, error.to_string())
}

pub(super) fn of_join(error: JoinError, folder: &PairFolder) -> Failure {
    let message = error.to_string();
    match error {
        JoinError::Folder(error) => of_folder(error),
        JoinError::Link(error) => of_link(&error),
        JoinError::Refused(refusal) => {
            let code = match refusal {
                Refusal::Wrong => "code-unknown",
                Refusal::Used => "code-used",
                Refusal::Expired => "code-expired",
            };
            Failure::failed(code, message).next(ANOTHER_CODE)
        }
        JoinError::Unable { .. } => Failure::failed("inviter-failed", message),
        JoinError::Unexpected { .. } => Failure::failed("unexpected-answer", message)
            .next("check that both nodes run the same version of Tandem"),
        JoinError::OwnCode => Failure::failed("own-code", message)
            .next("join on the other node, or name its folder with --data-dir"),
        JoinError::Paired { .. } => Failure::failed("already-paired", message).next(format!(
            "to leave that pair for good, stop this node and delete {}; then join",
            folder.path().display()
        )),
    }
}

fn of_link(error: &LinkError) -> Failure {
    let message = error.to_string();
    match error {
        LinkError::Refused { .. } => Failure::new(Exit::Unreachable, "unreachable", message)
            .next("start that node, or invite there with --wait"),
        LinkError::Unreachable { .. } => Failure::new(Exit::Unreachable, "unreachable", message)
            .next("check the address, which is in the code, and firewalls; invite with another --address"),
        LinkError::TimedOut { .. } => Failure::new(Exit::TimedOut, "timed-out", message)
            .next("check that a firewall lets this node through, and try again"),
        LinkError::NotTrusted { address, .. } => Failure::failed(
            "wrong-key",
            format!("{message}: it is not the node that made the code, or somebody is in between; nothing was sent"),
        )
        .next(format!("check what listens at {address}; then {ANOTHER_CODE}")),
        LinkError::NotTrustedThere { .. } => {
            Failure::failed("nobody-invited", "that node expects nobody: no code is open there")
                .next(ANOTHER_CODE)
        }
        LinkError::Foreign { .. } => Failure::failed("no-pair-address", message)
            .next("check that the address in the code is the one of [pair], not the one for web hooks"),
        LinkError::TooLong { .. } | LinkError::Closed { .. } => {
            Failure::new(Exit::Unreachable, "connection-broke", message)
                .next(format!("try again; if the code is used up by then, {ANOTHER_CODE}"))
        }
    }
}
