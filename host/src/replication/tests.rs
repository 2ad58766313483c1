//! Two nodes' sessions over a real link, each with a store of its own.

use std::{fs, io, path::PathBuf};

use bytes::Bytes;
use tokio::{task::JoinSet, time::timeout};

use super::{quarantine::Extent, *};
use crate::{
    durability::Needs,
    model::{
        clock::Clock,
        message::{Content, MessageId},
        name::Digest,
        pair::Role,
    },
    net::{
        keys::{PairFolder, Rotation},
        link::{Acceptor, AcceptorConfig, Arrival, Identity, Trust},
    },
    store::{
        self,
        change::{accept::Accept, deploy::Deploy, epoch::BeginEpoch},
        row::{Row, ready::ReadyRow},
        table::Table,
        tests::{config, name},
    },
};

const START_MS: u64 = 1_700_000_000_000;
const INTERVAL: Duration = Duration::from_millis(10);
const SILENCE: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(30);
const MANIFEST: &str =
    "name = \"a\"\nversion = \"1\"\n[[source]]\nname = \"in\"\nkind = \"webhook\"\n";

struct Node {
    session: Session,
    posture: watch::Sender<Posture>,
    identity: Identity,
    dir: tempfile::TempDir,
}

impl Node {
    fn new(is_main: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, identity) = (Clock::manual(START_MS), Identity::generate());
        let kept = store::Config { paired: true, ..config(dir.path()) };
        let store = Store::open(&kept, clock.clone()).unwrap();
        let standing = Standing { role: Role::Standby, epoch: 0, record: None };
        let (posture_sender, posture) = watch::channel(Posture { standing, accepted: false });
        let folder = PairFolder::of(dir.path());
        let rotation = Rotation::new(&folder, identity.clone(), &Trust::of([])).unwrap();
        let quarantine = Quarantine::open(dir.path(), store.clone(), clock.clone(), 0).unwrap();
        let (heard, mut hears) = mpsc::channel(64);
        #[expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]
        tokio::spawn(async move { while hears.recv().await.is_some() {} });
        let own = Own {
            pair: PairId::default(),
            store: StoreId(store.read().unwrap().identity().unwrap().store_id),
            is_main,
            hooks: ":1".to_owned(),
            interval: INTERVAL,
            silence: SILENCE,
            copy_rate: 0,
        };
        let aside = Aside {
            clock,
            own: watch::channel(None).1,
            other: Arc::default(),
            ahead: Arc::default(),
            differs: Arc::default(),
            rotation,
        };
        let session = Session {
            own,
            store,
            gate: Arc::default(),
            lease: Arc::new(Lease::new(LONG)),
            posture,
            quarantine: Arc::new(quarantine),
            notices: Arc::default(),
            heard,
            seen: Arc::new(watch::Sender::new(None)),
            aside,
            from: None,
        };
        Self { session, posture: posture_sender, identity, dir }
    }

    fn stands(&self, role: Role, epoch: u64) {
        let standing = Standing { role, epoch, record: None };
        self.posture.send_replace(Posture { standing, accepted: false });
    }

    /// Becomes primary, and goes on alone where it must.
    async fn lead(&self, epoch: u64) {
        let Session { store, gate, own, .. } = &self.session;
        gate.begin(epoch, store.journal_head().0.seq);
        gate.need(Needs::One);
        store.lead(epoch, Some(gate.clone())).await.unwrap();
        store.submit(BeginEpoch { owner: own.store }).await.unwrap();
        let (manifest, component) = (MANIFEST.to_owned(), Bytes::from_static(b"c"));
        let digest = Digest::of(&component);
        store.submit(Deploy { name: name("a"), manifest, component, digest }).await.unwrap();
        self.stands(Role::Primary, epoch);
    }

    async fn follow(&self, epoch: u64) {
        self.session.store.follow().await.unwrap();
        self.stands(Role::Standby, epoch);
    }

    async fn accept(&self, body: impl Into<Bytes>) -> MessageId {
        let content = Content {
            source: name("in"),
            headers: Vec::new(),
            content_type: None,
            key: None,
            body: body.into(),
        };
        let accept = Accept { solution: name("a"), content };
        self.session.store.submit(accept).await.unwrap().answer
    }

    fn has(&self, id: MessageId) -> bool {
        self.session.store.read().unwrap().record(id).unwrap().is_some()
    }

    /// Messages that wait to be handled, in order.
    fn queue(&self) -> Vec<MessageId> {
        let mut queue = Vec::new();
        let ready = self.session.store.read().unwrap().table(Table::Ready).unwrap();
        let take = |_: &[u8], row: &[u8]| {
            queue.push(ReadyRow::decode(row)?.id());
            Ok(true)
        };
        ready.scan(&[], take).unwrap();
        queue
    }

    fn is_settled(&self) -> bool {
        let reports = self.reports();
        !reports.is_empty() && reports.iter().all(|report| report.settled)
    }

    fn reports(&self) -> Vec<Report> {
        self.session.quarantine.list().unwrap()
    }

    /// Names in the folder of the quarantine.
    fn folders(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.path().join("quarantine"));
        entries.map_or_else(|_| Vec::new(), |all| all.map(|one| one.unwrap().path()).collect())
    }
}

/// Until one of them ends it.
async fn link(main: &Node, other: &Node) -> JoinSet<SessionError> {
    let trust = Trust::of([other.identity.fingerprint()]);
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let acceptor = Acceptor::bind(anywhere, &main.identity, &trust, AcceptorConfig::default());
    let mut acceptor = acceptor.await.unwrap();
    let address = acceptor.local_address().unwrap().to_string();
    let trust = Trust::of([main.identity.fingerprint()]);
    let dialling = Link::dial(&address, &other.identity, &trust, LONG);
    let (dialled, arrival) = tokio::join!(dialling, acceptor.accept());
    let Arrival::Peer(arrived) = arrival else { panic!("{arrival:?}") };
    let mut talk = JoinSet::new();
    talk.spawn(main.session.clone().run(arrived));
    talk.spawn(other.session.clone().run(dialled.unwrap()));
    talk
}

/// Two that were both primary: the first leads, the other had taken in one message.
async fn two_that_were_both_primary() -> (Node, Node, MessageId) {
    let (main, other) = (Node::new(true), Node::new(false));
    other.lead(2).await;
    let id = other.accept("apart").await;
    main.lead(3).await;
    other.follow(3).await;
    (main, other, id)
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waits = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, waits).await.unwrap_or_else(|_| panic!("{what}: it never was"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_long_to_set_aside_does_not_end_the_link() {
    let (main, other, id) = two_that_were_both_primary().await;
    let turn = other.session.quarantine.turn().await;
    let mut talk = link(&main, &other).await;
    let ended = timeout(SILENCE * 2, talk.join_next()).await;
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(other.reports(), []);
    drop(turn);
    until("the message is on both", || main.has(id) && other.has(id)).await;
    until("it is settled", || other.is_settled()).await;
    assert_eq!(other.folders().len(), 1, "one copy");
    assert!(talk.try_join_next().is_none(), "one link");
}

/// Links that break do not heap up copies beside each other.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_set_aside_once_however_often_it_is_begun() {
    let (_, other, _) = two_that_were_both_primary().await;
    let take = || other.session.quarantine.clone().take(Extent::Store, 0);
    let mut broken = JoinSet::new();
    broken.spawn(take());
    drop(broken);
    let (one, another) = tokio::join!(take(), take());
    one.and(another).unwrap();
    assert_eq!((other.folders().len(), other.reports().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_set_aside_to_the_end_does_not_stay() {
    let (_, other, _) = two_that_were_both_primary().await;
    let Session { store, aside: Aside { clock, .. }, quarantine, .. } = &other.session;
    let open = |min_free| {
        let quarantine = Quarantine::open(other.dir.path(), store.clone(), clock.clone(), min_free);
        Arc::new(quarantine.unwrap())
    };
    quarantine.clone().take(Extent::Store, 0).await.unwrap();
    let kept = other.folders();
    let left = other.dir.path().join("quarantine/0.unfinished");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("store.redb"), "a part").unwrap();
    assert_eq!(other.reports().len(), 1, "it is not looked at");
    open(0);
    assert_eq!(other.folders(), kept, "a start removes it, and nothing else");

    quarantine.discard(&other.reports()[0].id, "a test").unwrap();
    let full = open(u64::MAX).take(Extent::Store, 0).await.unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    let no_file = store.path().with_extension("journal");
    let moved = no_file.with_extension("moved");
    fs::rename(&no_file, &moved).unwrap();
    open(0).take(Extent::Store, 0).await.unwrap_err();
    assert!(other.folders().is_empty(), "nothing is left of either");
}

/// More than one change, or one message of the link, should hold.
#[tokio::test(flavor = "multi_thread")]
async fn much_that_was_accepted_apart_comes_in_pieces_and_in_order() {
    let (main, other) = (Node::new(true), Node::new(false));
    other.lead(2).await;
    let mut ids = Vec::new();
    for letter in b'a'..=b'e' {
        ids.push(other.accept(vec![letter; 3 << 19]).await);
    }
    main.lead(3).await;
    other.follow(3).await;
    let mut talk = link(&main, &other).await;
    until("it is settled", || other.is_settled()).await;
    let Report { id, fates, .. } = &other.reports()[0];
    assert_eq!(other.session.quarantine.pieces(id).unwrap().len(), 3);
    assert_eq!(*fates, [("taken".to_owned(), 5)].into());
    assert_eq!(main.queue(), ids);
    assert!(talk.try_join_next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_brought_again_goes_over_the_link_there_is() {
    let (main, other, id) = two_that_were_both_primary().await;
    let mut talk = link(&main, &other).await;
    until("it is settled", || other.is_settled()).await;
    let Report { id: entry, .. } = other.reports().remove(0);
    assert!(other.session.quarantine.replay(&entry).unwrap());
    let known = [("known".to_owned(), 1)].into();
    until("it was brought again", || other.is_settled() && other.reports()[0].fates == known).await;
    assert_eq!(main.queue(), [id], "and is there once");
    assert!(talk.try_join_next().is_none(), "one link");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_differ_are_told_until_they_do_not() {
    let node = Node::new(false);
    node.lead(1).await;
    let Session { store, aside, .. } = &node.session;
    let head = store.read().unwrap().head().unwrap();
    let same = node.session.beat().unwrap();
    let mut bent = same;
    bent.content[0] ^= 1;
    let told = |beat| {
        node.session.compare(&head, &beat);
        *aside.differs.borrow()
    };
    assert!(!told(same));
    assert!(told(bent));
    let later = Beat { shown: bent.shown + 1, ..same };
    assert!(told(later), "what is at another position says nothing");
    assert!(!told(same));
}
