//! Two folders, a real socket between them.

#![expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]

use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;
use crate::net::link::{Acceptor, AcceptorConfig, Arrival, Link, Trust};

const LONG: Duration = Duration::from_secs(30);
const VALID: Duration = Duration::from_mins(15);
const NOW: u64 = 1_000_000;

/// A node that answers those who join, and lets in who has.
struct Inviter {
    _data: TempDir,
    folder: PairFolder,
    clock: Clock,
    address: String,
    answered: mpsc::Receiver<Result<Joined, JoinError>>,
}

async fn inviter() -> Inviter {
    let (data, folder) = folder();
    let clock = Clock::manual(NOW);
    let identity = folder.identity_or_new().unwrap();
    let trust = Trust::default();
    let inviting = (folder.clone(), clock.clone());
    let config = AcceptorConfig {
        is_inviting: Arc::new(move || inviting.0.is_inviting(inviting.1.now_ms())),
        ..AcceptorConfig::default()
    };
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let mut acceptor = Acceptor::bind(anywhere, &identity, &trust, config).await.unwrap();
    let address = acceptor.local_address().unwrap().to_string();
    let (told, answered) = mpsc::channel(16);
    let (answering, clocks) = (folder.clone(), clock.clone());
    tokio::spawn(async move {
        loop {
            let Arrival::Stranger(stranger) = acceptor.accept().await else { continue };
            let (folder, clock, trust, told) =
                (answering.clone(), clocks.clone(), trust.clone(), told.clone());
            tokio::spawn(async move {
                let answer = answer_join(stranger, &folder, &clock).await;
                trust.replace(folder.peer().unwrap().unwrap().pins);
                told.send(answer).await.unwrap();
            });
        }
    });
    Inviter { _data: data, folder, clock, address, answered }
}

fn folder() -> (TempDir, PairFolder) {
    let data = tempfile::tempdir().unwrap();
    let folder = PairFolder::of(data.path());
    (data, folder)
}

impl Inviter {
    fn invite(&self) -> Code {
        self.folder.invite(&self.address, self.clock.now_ms(), VALID).unwrap().0
    }

    async fn answered(&mut self) -> Result<Joined, JoinError> {
        tokio::time::timeout(LONG, self.answered.recv()).await.unwrap().unwrap()
    }

    /// Whether the node with `folder` is let in as its peer.
    async fn lets_in(&self, folder: &PairFolder) -> Result<Link, LinkError> {
        let trust = Trust::of(folder.peer().unwrap().unwrap().pins);
        let identity = folder.identity().unwrap().unwrap();
        Link::dial(&self.address, &identity, &trust, LONG).await
    }
}

#[tokio::test]
async fn who_has_joined_shares_everything_and_is_let_in() {
    let mut main = inviter().await;
    let (_data, folder) = folder();
    let code = main.invite().to_string().parse().unwrap();
    let joined = join(&code, &folder, 7499, LONG).await.unwrap();
    let answered = main.answered().await.unwrap();
    assert!(joined.is_confirmed && answered.is_confirmed);
    assert_eq!(answered.address, "127.0.0.1:7499");
    assert_eq!(answered.peer, folder.identity().unwrap().unwrap().fingerprint());
    assert_eq!(folder.shared().unwrap(), main.folder.shared().unwrap());
    assert_eq!(folder.peer().unwrap().unwrap().address.as_ref(), Some(&main.address));
    main.lets_in(&folder).await.unwrap();
}

#[tokio::test]
async fn a_code_is_good_once_and_for_its_time() {
    let mut main = inviter().await;
    let (_data, first) = folder();
    let (_other, second) = folder();
    let used = main.invite();
    join(&used, &first, 1, LONG).await.unwrap();
    main.answered().await.unwrap();
    let refused = async |code: &Code| match join(code, &second, 1, LONG).await {
        Err(JoinError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&used).await, Refusal::Used);

    let late = main.invite();
    assert_eq!(refused(&used).await, Refusal::Wrong, "a newer one was made");
    main.clock.advance(VALID);
    assert_eq!(refused(&late).await, Refusal::Expired);
    assert_eq!(second.peer().unwrap(), None);
    main.lets_in(&first).await.unwrap();

    // A day later nobody is talked to.
    main.clock.advance(Duration::from_hours(24));
    let refused = join(&late, &second, 1, LONG).await;
    assert!(matches!(refused, Err(JoinError::Link(LinkError::NotTrustedThere { .. }))));
}

#[tokio::test]
async fn the_code_says_whom_to_talk_to() {
    let main = inviter().await;
    let other = inviter().await;
    let (_data, folder) = folder();
    let code = main.invite();
    other.invite();
    // Somebody else answers at the address: it hears nothing.
    let elsewhere = Code { address: other.address.clone(), ..code.clone() };
    let refused = join(&elsewhere, &folder, 1, LONG).await;
    assert!(matches!(refused, Err(JoinError::Link(LinkError::NotTrusted { .. }))), "{refused:?}");
    let own = join(&code, &main.folder, 1, LONG).await;
    assert!(matches!(own, Err(JoinError::OwnCode)), "{own:?}");
    join(&code, &folder, 1, LONG).await.unwrap();
    // Who belongs to a pair does not leave it by mistake.
    let refused = join(&other.invite(), &folder, 1, LONG).await;
    assert!(matches!(refused, Err(JoinError::Paired { .. })), "{refused:?}");
    assert_eq!(folder.shared().unwrap(), main.folder.shared().unwrap());
}

#[tokio::test]
async fn of_several_who_come_at_once_one_joins() {
    let mut main = inviter().await;
    let code = main.invite();
    let folders: Vec<_> = (0..6).map(|_| folder()).collect();
    let mut joining = tokio::task::JoinSet::new();
    for (_, folder) in &folders {
        let (code, folder) = (code.clone(), folder.clone());
        joining.spawn(async move { (join(&code, &folder, 1, LONG).await, folder) });
    }
    let mut joined = Vec::new();
    while let Some(ended) = joining.join_next().await {
        match ended.unwrap() {
            (Ok(_), folder) => joined.push(folder),
            (Err(JoinError::Refused(Refusal::Used)), folder) => {
                assert_eq!(folder.peer().unwrap(), None);
            }
            (other, _) => panic!("{other:?}"),
        }
        let _ = main.answered().await;
    }
    let [joined] = &joined[..] else { panic!("{} have joined", joined.len()) };
    main.lets_in(joined).await.unwrap();
}

#[tokio::test]
async fn who_dies_before_it_hears_the_answer_joins_with_the_next_code() {
    let mut main = inviter().await;
    let (_data, folder) = folder();
    let code = main.invite();
    let identity = folder.identity_or_new().unwrap();
    let mut dying = Stranger::dial(&main.address, &identity, |_| true, LONG).await.unwrap();
    dying.say(JOIN, &encode(&Ask { secret: code.secret, port: 1 })).await.unwrap();
    drop(dying);
    let answered = main.answered().await.unwrap();
    assert!(!answered.is_confirmed);
    assert_eq!(folder.peer().unwrap(), None);
    // The code is used up, its key is pinned: either way it comes in with the next one.
    let used = join(&code, &folder, 1, LONG).await;
    assert!(matches!(used, Err(JoinError::Refused(Refusal::Used))), "{used:?}");
    let _ = main.answered().await;
    join(&main.invite(), &folder, 1, LONG).await.unwrap();
    assert!(main.answered().await.unwrap().is_confirmed);
    main.lets_in(&folder).await.unwrap();
}

#[tokio::test]
async fn who_says_something_else_is_sent_away() {
    let mut main = inviter().await;
    let code = main.invite();
    let (_data, folder) = folder();
    let identity = folder.identity_or_new().unwrap();
    for (kind, words) in [(KEPT, &b""[..]), (JOIN, b""), (JOIN, &[7; 5])] {
        let mut link = Stranger::dial(&main.address, &identity, |_| true, LONG).await.unwrap();
        link.say(kind, words).await.unwrap();
        let answered = main.answered().await;
        assert!(matches!(answered, Err(JoinError::Unexpected { .. })), "{answered:?}");
    }
    join(&code, &folder, 1, LONG).await.unwrap();
}
