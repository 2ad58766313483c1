//! Two stores: what one leads with, the other has.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};

use super::*;
use crate::{
    model::{
        pair::StoreId,
        position::{Durability, Position},
    },
    store::{
        change::epoch::BeginEpoch,
        frame::{FrameBuilder, FrameError},
        open::OpenError,
        records::Wanted,
        replica::{Overtaken, Pulse, Replica, Waiting},
        replicate::{Installing, OrderError, Span},
    },
};

/// Hands frames to another store, and knows what it has.
#[derive(Debug)]
struct Line {
    frames: mpsc::Sender<(Position, Chain, Bytes)>,
    /// After the last frame that was offered.
    chain: Mutex<Chain>,
    state: Mutex<Option<Result<u64, Overtaken>>>,
    changed: Notify,
}

impl Line {
    fn new(from: &Store, to: &Store) -> Arc<Self> {
        let (frames, mut offered) = mpsc::channel(64);
        let (state, changed) = (Mutex::default(), Notify::new());
        let chain = Mutex::new(from.journal_head().1);
        let line = Arc::new(Self { frames, chain, state, changed });
        // As the other store says when it is linked.
        line.tell(Ok(to.journal_head().0.seq));
        let (store, this) = (to.clone(), Arc::downgrade(&line));
        #[expect(clippy::disallowed_methods, reason = "the test's own")]
        tokio::spawn(async move {
            while let Some((position, before, frame)) = offered.recv().await {
                let (head, _) = store.take(vec![(before, frame)], position.seq - 1).await.unwrap();
                let Some(line) = this.upgrade() else { return };
                line.tell(Ok(head.seq));
            }
        });
        line
    }

    /// One that is never answered.
    fn nowhere(from: &Store) -> Arc<Self> {
        let (frames, _) = mpsc::channel(64);
        let (state, changed) = (Mutex::default(), Notify::new());
        let chain = Mutex::new(from.journal_head().1);
        Arc::new(Self { frames, chain, state, changed })
    }

    fn tell(&self, has: Result<u64, Overtaken>) {
        *self.state.lock().unwrap() = Some(has);
        self.changed.notify_one();
    }
}

impl Replica for Line {
    fn offer(&self, position: Position, frame: Bytes) {
        let mut chain = self.chain.lock().unwrap();
        let before = *chain;
        *chain = before.next(&frame);
        self.frames.try_send((position, before, frame)).ok();
    }

    fn wait<'a>(&'a self, position: Position, here: &'a Pulse) -> Waiting<'a> {
        Box::pin(async move {
            loop {
                let has = *self.state.lock().unwrap();
                match has {
                    Some(Ok(seq)) if seq >= position.seq => return Ok(Durability::Two),
                    Some(Err(overtaken)) => return Err(overtaken),
                    _ => {}
                }
                here.beat();
                self.changed.notified().await;
            }
        })
    }
}

const OWNER: StoreId = StoreId([1; 16]);

struct Half {
    store: Store,
    dir: tempfile::TempDir,
}

impl Half {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { paired: true, ..config(dir.path()) };
        Self { store: Store::open(&config, Clock::manual(START_MS)).unwrap(), dir }
    }

    #[expect(clippy::disallowed_methods, reason = "nobody tells when a store is closed")]
    fn reopen(self) -> Self {
        let Self { store, dir } = self;
        drop(store);
        // Whoever still hands frames to it lets go soon.
        let config = Config { paired: true, ..config(dir.path()) };
        let until = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            match Store::open(&config, Clock::manual(START_MS)) {
                Err(OpenError::InUse { .. }) if std::time::Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                opened => return Self { store: opened.unwrap(), dir },
            }
        }
    }

    async fn lead(&self, epoch: u64, line: Option<Arc<Line>>) {
        self.store.lead(epoch, line.map(|line| line as Arc<dyn Replica>)).await.unwrap();
        self.store.submit(BeginEpoch { owner: OWNER }).await.unwrap();
    }

    async fn accept(&self, body: &'static str) -> Result<Durability, SubmitError> {
        let accept = Accept { solution: name("a"), content: content("in", body) };
        self.store.submit(accept).await.map(|kept| kept.durability)
    }

    /// What is shown: its position, and the content hash counted anew, which must be the one that was kept.
    fn shown(&self) -> (Position, String) {
        let (head, content) = self.store.recount().unwrap();
        assert_eq!(head.content, content);
        (head.position, content.to_string())
    }

    /// Whether rows of another are here that were never complete.
    fn has_staged(&self) -> bool {
        crate::store::staging::is_there(&self.store.0.db).unwrap()
    }

    fn messages(&self) -> u64 {
        self.store.read().unwrap().len(Table::Messages).unwrap()
    }

    /// Shows all that is kept.
    async fn show(&self) {
        let (head, _) = self.store.journal_head();
        self.store.take(Vec::new(), head.seq).await.unwrap();
        self.caught_up().await;
    }

    /// Frames are answered before others show; an order behind them is not.
    async fn caught_up(&self) {
        self.store.take(Vec::new(), 0).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_has_what_the_leader_has() {
    let (one, other) = (Half::new(), Half::new());
    one.lead(2, Some(Line::new(&one.store, &other.store))).await;
    one.store.submit(deploy(b"one")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(one.accept("b").await.unwrap(), Durability::Two);
    }
    assert_eq!(other.store.journal_head(), one.store.journal_head());
    assert_eq!(other.store.journal_head().0, Position { epoch: 2, seq: 5 });
    other.caught_up().await;
    assert_eq!(other.shown().0.seq, 4, "whether the leader shows its last frame is not known");
    assert_eq!(other.store.catalogue().borrow().solutions.len(), 1);
    let expected = one.shown();
    one.store.follow().await.unwrap();
    assert!(matches!(other.accept("b").await, Err(SubmitError::NotPrimary)));
    let other = other.reopen();
    assert_eq!(other.shown().0.seq, 4, "nor after a restart");
    other.show().await;
    assert_eq!(other.shown(), expected);
    let other = other.reopen();
    assert_eq!(other.shown(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_takes_over_shows_all_that_it_kept() {
    let (one, other) = (Half::new(), Half::new());
    one.lead(2, Some(Line::new(&one.store, &other.store))).await;
    one.store.submit(deploy(b"one")).await.unwrap();
    one.accept("b").await.unwrap();
    drop(one);
    let other = other.reopen();
    other.lead(3, None).await;
    assert_eq!(other.messages(), 1);
    assert_eq!(other.accept("b").await.unwrap(), Durability::One);
    assert_eq!(other.store.counters().queues.sum(), 2, "what waits is counted");
    let head = other.store.journal_head().0;
    assert_eq!((head.epoch, other.shown().0), (3, head));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_other_node_never_had_is_not_shown_and_can_be_taken_back() {
    let (one, other) = (Half::new(), Half::new());
    one.lead(2, Some(Line::new(&one.store, &other.store))).await;
    one.store.submit(deploy(b"one")).await.unwrap();
    let before = one.store.journal_head();
    let line = Line::nowhere(&one.store);
    one.store.lead(2, Some(line.clone())).await.unwrap();
    let mut accept = Box::pin(one.accept("lost"));
    assert!(timeout(Duration::from_millis(100), &mut accept).await.is_err(), "no receipt");
    assert!(one.store.counters().pulse.age() < Duration::from_secs(5), "but it is not stuck");
    line.tell(Err(Overtaken));
    assert!(matches!(accept.as_mut().await, Err(SubmitError::NotPrimary)));
    drop(accept);
    assert!(matches!(one.accept("b").await, Err(SubmitError::NotPrimary)), "nor is it again");
    assert_eq!(one.messages(), 0);
    let one = one.reopen();
    assert_eq!(one.store.journal_head().0.seq, before.0.seq + 1);
    assert_eq!((one.messages(), one.shown().0), (0, before.0), "not shown after a restart either");
    // A node that acted alone had given receipts for it: it is set aside with the rest.
    let apart = one.store.accepted_after(0, &Wanted::default()).unwrap().apart;
    assert_eq!(apart.messages.len(), 1, "also what only the journal has");
    let later = one.store.accepted_after(before.0.seq + 1, &Wanted::default()).unwrap();
    assert!(later.apart.messages.is_empty());
    let cut = one.store.cut_last().await.unwrap().expect("it waits");
    assert_eq!(Frame::decode(&cut).unwrap().position.seq, before.0.seq + 1);
    assert_eq!(one.store.journal_head(), before);
    assert_eq!(one.store.cut_last().await, Ok(None), "what is shown stays");
    // The other goes on, and the first has it.
    other.lead(3, Some(Line::new(&other.store, &one.store))).await;
    other.accept("kept").await.unwrap();
    one.show().await;
    assert_eq!((one.shown(), one.messages()), (other.shown(), 1));
    other.store.follow().await.unwrap();
    let one = one.reopen();
    assert_eq!(one.shown(), other.shown());
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_do_not_fit_are_refused_whole() {
    let half = Half::new();
    let frame = |epoch, seq, table: u8| {
        let mut frame = FrameBuilder::default();
        frame.begin(1, Position { epoch, seq }, 0);
        frame.put(Table::State, b"key", b"value");
        let mut bytes = frame.bytes().to_vec();
        bytes[25] = table;
        Bytes::from(bytes)
    };
    // Each with the chain hash before it.
    let chained = |mut chain: Chain, frames: Vec<Bytes>| -> Vec<(Chain, Bytes)> {
        let chained = frames.into_iter().map(|frame| {
            let before = chain;
            chain = chain.next(&frame);
            (before, frame)
        });
        chained.collect()
    };
    let state = Table::State as u8;
    let first = chained(Chain::default(), vec![frame(2, 1, state), frame(2, 2, state)]);
    let (_, end) = half.store.take(first.clone(), 0).await.unwrap();
    for (chain, frames, why) in [
        (end, vec![frame(2, 4, state)], "frame 2/4 came after 2/2"),
        (first[1].0, vec![frame(1, 2, state)], "frame 2 is another here"),
        (end, vec![frame(1, 3, state)], "frame 1/3 came after 2/2"),
        (
            first[1].0,
            vec![frame(2, 3, state)],
            "frame 2/3 does not continue frame 2/2 as it is here",
        ),
    ] {
        let taken = half.store.take(chained(chain, frames), 0).await;
        assert_eq!(taken, Err(OrderError::Refused(why.to_owned())));
        assert_eq!(half.store.journal_head().0.seq, 2);
    }
    for (frames, why) in [
        (vec![frame(2, 3, state), frame(2, 4, 200)], FrameError::Table(200)),
        (vec![Bytes::from_static(&[9])], FrameError::Version(9)),
    ] {
        let taken = half.store.take(chained(end, frames), 0).await;
        assert_eq!(taken, Err(OrderError::Unknown(why)));
        assert_eq!(half.store.journal_head().0.seq, 2);
    }
    let again = chained(first[1].0, vec![frame(2, 2, state), frame(2, 3, state)]);
    let (head, end) = half.store.take(again, 0).await.unwrap();
    assert_eq!(head.seq, 3, "one is here already");
    half.lead(3, None).await;
    let late = chained(end, vec![frame(3, 5, state)]);
    assert!(half.store.take(late, 0).await.is_err(), "a leader takes none");
}

/// Hands rows of `from` to `to`, which has no need for those that are the same; each part goes through `change` first.
async fn install(
    from: &Half,
    to: &Half,
    mut change: impl FnMut(Installing) -> Option<Installing> + Send + 'static,
) -> Result<(), OrderError> {
    let (give, parts) = mpsc::channel(1);
    let (tell, told) = oneshot::channel::<Vec<Span>>();
    let store = from.store.clone();
    let giving = tokio::task::spawn_blocking(move || {
        let give = |part| change(part).is_some_and(|part| give.blocking_send(part).is_ok());
        store.give_rows(&told.blocking_recv().unwrap(), give).unwrap();
    });
    let outcome = to.store.install(parts, tell).await;
    giving.await.unwrap();
    outcome
}

/// Components that make a store large, in bytes.
const LARGE: usize = 700_000;

async fn deploy_large(half: &Half) {
    for number in 0..8 {
        let component = Box::leak(vec![number; LARGE].into_boxed_slice());
        half.store.submit(deploy(component)).await.unwrap();
    }
}

/// The same, and how much was sent: bytes of rows.
async fn install_and_count(from: &Half, to: &Half) -> u64 {
    let bytes = Arc::new(AtomicU64::new(0));
    let counting = bytes.clone();
    install(from, to, move |part| {
        counting.fetch_add(part.bytes(), Ordering::Relaxed);
        Some(part)
    })
    .await
    .unwrap();
    bytes.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_another_replace_its_own_while_that_one_goes_on() {
    let (one, other) = (Half::new(), Half::new());
    other.lead(2, None).await;
    other.store.submit(deploy(b"another")).await.unwrap();
    other.accept("own").await.unwrap();
    other.store.follow().await.unwrap();
    let own = other.shown();
    one.lead(5, None).await;
    one.store.submit(deploy(b"one")).await.unwrap();
    one.accept("b").await.unwrap();
    // Longer than a page's worth of pieces.
    one.store.submit(deploy(Box::leak(vec![7; 3_000_000].into_boxed_slice()))).await.unwrap();
    let then = one.shown();

    let broken = install(&one, &other, |part| match part {
        Installing::Done(_) => None,
        part => Some(part),
    });
    assert!(broken.await.unwrap_err().to_string().contains("broke off"));
    let wrong = install(&one, &other, |part| match part {
        Installing::Same { table, upto } if table == Table::Messages as u8 => {
            let rows = vec![(upto.clone(), Bytes::from_static(b"x"))];
            Some(Installing::Rows { table, rows, upto: Some(upto) })
        }
        part => Some(part),
    });
    assert!(wrong.await.unwrap_err().to_string().contains("content hash"));
    assert_eq!(other.shown(), own, "its own rows are there until the others are complete");
    let other = other.reopen();
    assert_eq!(other.shown(), own);

    let store = one.store.clone();
    let meanwhile = Accept { solution: name("a"), content: content("in", "later") };
    let mut meanwhile = Some(meanwhile);
    install(&one, &other, move |part| {
        if let Some(accept) = meanwhile.take() {
            store.submit_blocking(accept, |kept| assert!(kept.is_ok())).unwrap();
        }
        Some(part)
    })
    .await
    .unwrap();
    assert_eq!(other.shown(), then);
    assert_eq!(other.store.journal_head().0, then.0);
    assert_eq!(other.store.catalogue().borrow().solutions.len(), 1);
    let other = other.reopen();
    assert_eq!(other.shown(), then);
    // What came meanwhile is a frame behind it.
    let (head, _) = one.store.journal_head();
    assert_eq!(head.seq, then.0.seq + 1);
    let frame = one.store.frame(head.seq).unwrap().unwrap();
    let before = one.store.chain_at(head.seq - 1).unwrap();
    assert_eq!(
        other.store.take(vec![(before, frame)], head.seq).await,
        Ok(one.store.journal_head())
    );
    other.show().await;
    assert_eq!(other.shown(), one.shown());
}

/// Whatever breaks off, what came stays, and only the rest comes the next time: also of another moment.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_came_need_not_come_again() {
    let (one, mut other) = (Half::new(), Half::new());
    one.lead(5, None).await;
    deploy_large(&one).await;
    let all = one.store.recount().unwrap();
    // Four large parts, and some are small.
    for most in [2, 2, 100] {
        let mut large = 0;
        let broken = install(&one, &other, move |part| {
            large += usize::from(part.bytes() > LARGE as u64);
            (large <= most && !matches!(part, Installing::Done(_))).then_some(part)
        });
        assert!(broken.await.is_err());
        other = other.reopen();
        assert_eq!(other.shown().0.seq, 0, "nothing of it shows");
        one.accept("between").await.unwrap();
    }
    let bytes = install_and_count(&one, &other).await;
    assert!(bytes < LARGE as u64, "{bytes} came again");
    assert_ne!(all, one.store.recount().unwrap());
    assert_eq!(other.shown(), one.shown());
    assert_eq!(other.store.recount().unwrap(), one.store.recount().unwrap());
    assert!(!other.reopen().has_staged(), "nothing is left beside the rows");
}

/// Two stores that were one and went on apart: what they have in common is not sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_went_its_own_way_gets_what_differs() {
    let (one, other) = (Half::new(), Half::new());
    one.lead(5, None).await;
    deploy_large(&one).await;
    let bytes = install_and_count(&one, &other).await;
    assert!(bytes > 8 * LARGE as u64, "{bytes} came");
    other.lead(6, None).await;
    other.accept("there").await.unwrap();
    other.store.follow().await.unwrap();
    one.accept("here").await.unwrap();
    let bytes = install_and_count(&one, &other).await;
    assert!(bytes < LARGE as u64, "{bytes} came");
    assert_eq!(other.shown(), one.shown());
    let recount = other.store.recount().unwrap();
    assert_eq!((recount.0.content, recount), (recount.1, one.store.recount().unwrap()));
    // Leading, nobody needs what came in part.
    let broken = install(&one, &other, |part| match part {
        Installing::Done(_) => None,
        part => Some(part),
    });
    assert!(broken.await.is_err());
    assert!(other.has_staged());
    other.lead(7, None).await;
    assert!(!other.has_staged());
    other.accept("on").await.unwrap();
}

/// Parts that are not what was asked for are refused, and nothing shows of them.
#[tokio::test(flavor = "multi_thread")]
async fn parts_that_make_no_sense_are_refused() {
    let (one, other) = (Half::new(), Half::new());
    let row = |key: &'static [u8]| (Bytes::from_static(key), Bytes::from_static(b"v"));
    let upto = |key: &'static [u8]| Some(Bytes::from_static(key));
    let state = Table::State as u8;
    for (part, why) in [
        (
            Installing::Rows { table: 99, rows: vec![], upto: None },
            "table 99 is not known to this program",
        ),
        (
            Installing::Rows { table: state, rows: vec![row(b"b"), row(b"a")], upto: None },
            "table 8 came in another order than that of its keys",
        ),
        (
            Installing::Rows { table: state, rows: vec![row(b"b")], upto: upto(b"a") },
            "table 8 came in another order than that of its keys",
        ),
        (
            Installing::Same { table: state, upto: Bytes::from_static(b"a") },
            "table 8 is said to be the same up to where nobody asked for",
        ),
    ] {
        let mut part = Some(part);
        let outcome = install(&one, &other, move |_| part.take()).await;
        assert_eq!(outcome, Err(OrderError::Refused(why.to_owned())));
        assert_eq!(other.shown().0.seq, 0);
    }
}

/// Until both programs are new, what the older one knows is written; then never again.
#[tokio::test(flavor = "multi_thread")]
async fn frames_are_written_in_the_highest_version_that_both_take() {
    let (one, other) = (Half::new(), Half::new());
    let version = |half: &Half| {
        let frame = half.store.frame(half.store.journal_head().0.seq).unwrap().unwrap();
        Frame::decode(&frame).unwrap().version
    };
    one.lead(2, Some(Line::new(&one.store, &other.store))).await;
    assert_eq!(version(&one), 1, "nothing is known of the other");
    one.store.agree_on_frames(1);
    one.store.submit(deploy(b"one")).await.unwrap();
    assert_eq!((version(&one), one.store.frame_version()), (1, 1));
    one.store.agree_on_frames(2);
    one.accept("b").await.unwrap();
    assert_eq!((version(&one), version(&other)), (2, 2));
    one.store.follow().await.unwrap();
    // Both know it after a restart, before they hear of each other again.
    for half in [one, other] {
        let half = half.reopen();
        assert_eq!(half.store.frame_version(), 2);
        half.lead(3, None).await;
        half.store.agree_on_frames(1);
        half.accept("b").await.unwrap();
        assert_eq!(version(&half), 2);
    }
}
