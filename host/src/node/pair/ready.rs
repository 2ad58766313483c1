//! Whether this node, while it is standby, could take over: looked at again and again, before anybody needs it.
//!
//! What a takeover starts is dispatch, schedules, deliveries and upkeep, on the store that is open already, behind the
//! listener that serves already. Schedules and web hooks need no more than the manifest.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
    time::MissedTickBehavior,
};

use crate::{
    machine::Stream,
    model::pair::{
        Ask, Role,
        ready::{Ahead, Lack, Prepared, Readiness, What},
    },
    node::config,
    store::Store,
    takeover::{Register, View},
};

/// Between two looks at what is known.
const LOOK: Duration = Duration::from_millis(500);
/// Between two questions to this node's own listener and to the witness.
const PROBE: Duration = Duration::from_secs(5);
/// For an answer to one.
const ANSWER: Duration = Duration::from_secs(3);

/// Where it is looked.
pub(super) struct Looking {
    pub config: Arc<config::Pair>,
    pub store: Store,
    pub view: watch::Receiver<View>,
    /// What is compiled; none: that is being found out.
    pub warm: watch::Receiver<Option<Arc<[Prepared]>>>,
    pub ahead: watch::Receiver<Option<Ahead>>,
    pub differs: watch::Receiver<bool>,
    /// Why there is no link, if there is none.
    pub trouble: watch::Receiver<String>,
    pub witness: Option<Arc<dyn Register>>,
    /// Where this node serves.
    pub listen: SocketAddr,
    pub tell: watch::Sender<Option<Arc<Readiness>>>,
}

/// What others had to be asked for; none: right, or not asked yet.
#[derive(Debug, Clone, Default)]
struct Answers {
    intake: Option<String>,
    witness: Option<String>,
}

/// What a standby knows of itself.
#[derive(Debug)]
struct Facts<'a> {
    is_linked: bool,
    trouble: String,
    is_in_sync: bool,
    /// From the primary's rows, where its journal ends in the same frame.
    differs: bool,
    components: &'a [Prepared],
    answers: &'a Answers,
    free: Option<u64>,
    min_free: u64,
    ahead: Option<Ahead>,
    max_difference: Duration,
}

impl Looking {
    /// Until `stop` says true.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let answers = watch::Sender::new(Answers::default());
        tokio::select! {
            biased;
            _ = stop.wait_for(|&stop| stop) => {}
            () = self.ask(&answers) => {}
            () = self.look(answers.subscribe()) => {}
        }
    }

    async fn look(&self, mut answers: watch::Receiver<Answers>) {
        let mut warm = self.warm.clone();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = looks.tick() => {}
                Ok(()) = warm.changed() => {}
                Ok(()) = answers.changed() => {}
            }
            let prepared = warm.borrow_and_update().clone();
            let role = self.view.borrow().state.role();
            let now = match (role, prepared) {
                (Role::Standby, Some(prepared)) => {
                    let lacks = decide(&self.facts(&prepared, &answers.borrow_and_update()));
                    Some(Arc::new(Readiness { lacks, components: prepared.to_vec() }))
                }
                (Role::Standby, None) => continue,
                _ => None,
            };
            self.tell.send_if_modified(|then| {
                let is_new = *then != now;
                if is_new {
                    tell_change(then.as_deref(), now.as_deref());
                    *then = now;
                }
                is_new
            });
        }
    }

    fn facts<'a>(&'a self, components: &'a [Prepared], answers: &'a Answers) -> Facts<'a> {
        let view = self.view.borrow();
        let state = &view.state;
        Facts {
            is_linked: state.peer.as_ref().is_some_and(|peer| peer.is_up),
            trouble: self.trouble.borrow().clone(),
            is_in_sync: state.kept.record.is_some_and(|record| record.in_sync.has(state.rules.me)),
            differs: *self.differs.borrow(),
            components,
            answers,
            free: self.store.disk_free_bytes(),
            min_free: self.config.min_free,
            ahead: *self.ahead.borrow(),
            max_difference: self.config.max_clock_difference,
        }
    }

    /// Asks what takes a moment to answer.
    async fn ask(&self, tell: &watch::Sender<Answers>) {
        let mut probes = tokio::time::interval(PROBE);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            probes.tick().await;
            if self.view.borrow().state.role() == Role::Primary {
                continue;
            }
            let late = || format!("no answer within {ANSWER:?}");
            let served = tokio::time::timeout(ANSWER, is_served(self.listen));
            let served = served.await.unwrap_or_else(|_| Err(late()));
            let witness = match &self.witness {
                None => None,
                Some(witness) => match tokio::time::timeout(ANSWER, witness.ask(Ask::Read)).await {
                    Ok(answer) => answer.err(),
                    Err(_) => Some(late()),
                },
            };
            tell.send_replace(Answers { intake: served.err(), witness });
        }
    }
}

/// Whether this node answers at its own address.
async fn is_served(listen: SocketAddr) -> Result<(), String> {
    let own = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let asked = async {
        let mut stream = Stream::connect((own, listen.port()).into()).await?;
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: self\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match asked.await {
        Ok(answer) if answer == *b"HTTP/1.1 200" => Ok(()),
        Ok(answer) => Err(format!("it answers `{}`", String::from_utf8_lossy(&answer))),
        Err(error) => Err(error.to_string()),
    }
}

/// All that is wrong, what weighs most first.
fn decide(facts: &Facts<'_>) -> Vec<Lack> {
    let mut lacks = Vec::new();
    if !facts.is_linked {
        let why = match facts.trouble.as_str() {
            "" => "it does not come",
            trouble => trouble,
        };
        lacks.push(Lack::new(
            What::Link,
            format!("there is no link to the other node: {why}"),
            "see that it runs and that this node reaches it (`peer` in [pair])",
        ));
    }
    if !facts.is_in_sync {
        lacks.push(Lack::new(
            What::InSync,
            "this node does not have everything that has a receipt",
            "wait until it has caught up, which needs a link",
        ));
    }
    if facts.differs {
        lacks.push(Lack::new(
            What::Disk,
            "this node's rows are not the primary's, although the journals are the same",
            "stop it and move its folder away but for `pair`, so that it gets everything anew; look at its disk and memory",
        ));
    }
    if let Some(why) = &facts.answers.witness {
        lacks.push(Lack::new(
            What::Witness,
            format!("the witness does not answer ({why}), and without it no node can take over"),
            "see that it runs and that this node reaches it (`witness` in [pair])",
        ));
    }
    for Prepared { solution, fault, .. } in facts.components {
        if let Some(fault) = fault {
            lacks.push(Lack::new(
                What::Component,
                format!("solution {solution} cannot run on this node: {fault}"),
                "run the same version of Tandem on both nodes, or deploy it again",
            ));
        }
    }
    lacks.extend(of_machine(facts));
    lacks
}

/// What is wrong with where it runs.
fn of_machine(facts: &Facts<'_>) -> Vec<Lack> {
    let mut lacks = Vec::new();
    if let Some(why) = &facts.answers.intake {
        lacks.push(Lack::new(
            What::Intake,
            format!("this node does not answer at its own address: {why}"),
            "see `max_connections` in [ingress] and the machine's limit of open files",
        ));
    }
    if let Some(free) = facts.free
        && free < facts.min_free
    {
        lacks.push(Lack::new(
            What::Disk,
            format!(
                "the disk has less than {} MiB free, and will refuse messages soon",
                facts.min_free.div_ceil(1 << 20)
            ),
            "make room, or lower `min_free` in [pair]",
        ));
    }
    if let Some(ahead) = facts.ahead
        && u128::from(ahead.surely_ms()) > facts.max_difference.as_millis()
    {
        let (s, way) = (ahead.about_ms().unsigned_abs() / 1000, ahead.about_ms() > 0);
        let way = if way { "behind" } else { "ahead of" };
        lacks.push(Lack::new(
            What::Clock,
            format!("this node's clock is about {s} s {way} the primary's"),
            "set both by the same time servers (NTP)",
        ));
    }
    lacks
}

fn tell_change(before: Option<&Readiness>, now: Option<&Readiness>) {
    let Some(now) = now else { return };
    if before.is_some_and(|before| before.lacks == now.lacks) {
        return;
    }
    if now.lacks.is_empty() {
        tracing::info!(components = now.components.len(), "this node is ready to take over");
        return;
    }
    for lack in &now.lacks {
        if !before.is_some_and(|before| before.lacks.contains(lack)) {
            tracing::warn!(what = lack.what.word(), "this node is not ready to take over: {lack}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::Digest;

    #[test]
    fn each_lack_has_its_reason_and_what_to_do() {
        let prepared = |fault: Option<&str>| Prepared {
            solution: "leads".parse().unwrap(),
            revision: 1,
            digest: Digest([0; 32]),
            took_ms: 1,
            fault: fault.map(str::to_owned),
        };
        let (good, bad) = ([prepared(None)], [prepared(Some("it imports `later`"))]);
        let right = Answers::default();
        let wrong = Answers {
            intake: Some("connection refused".to_owned()),
            witness: Some("no answer".to_owned()),
        };
        let fine = || Facts {
            is_linked: true,
            trouble: String::new(),
            is_in_sync: true,
            differs: false,
            components: &good,
            answers: &right,
            free: Some(1 << 30),
            min_free: 1 << 29,
            ahead: Some(Ahead::new(0, 4000, 0)),
            max_difference: Duration::from_secs(5),
        };
        assert_eq!(decide(&fine()), []);
        // What cannot be asked is not held against it.
        assert_eq!(decide(&Facts { free: None, ahead: None, ..fine() }), []);
        let cases = [
            (
                Facts { is_linked: false, trouble: "refused".to_owned(), ..fine() },
                What::Link,
                "refused",
            ),
            (Facts { is_in_sync: false, ..fine() }, What::InSync, "has a receipt"),
            (Facts { differs: true, ..fine() }, What::Disk, "are not the primary's"),
            (Facts { components: &bad, ..fine() }, What::Component, "leads cannot run"),
            (Facts { free: Some(1 << 28), ..fine() }, What::Disk, "less than 512 MiB"),
            (
                Facts { ahead: Some(Ahead::new(0, 7000, 10)), ..fine() },
                What::Clock,
                "about 6 s behind",
            ),
            (
                Facts { ahead: Some(Ahead::new(60_000, 0, 60_000)), ..fine() },
                What::Clock,
                "about 60 s ahead of",
            ),
        ];
        for (facts, what, why) in cases {
            let lacks = decide(&facts);
            assert_eq!(lacks.len(), 1, "{facts:?}: {lacks:?}");
            assert!(lacks[0].what == what && lacks[0].why.contains(why), "{:?}", lacks[0]);
            assert!(!lacks[0].remedy.is_empty());
        }
        let both = decide(&Facts { answers: &wrong, ..fine() });
        let whats: Vec<_> = both.iter().map(|lack| lack.what).collect();
        assert_eq!(whats, [What::Witness, What::Intake]);
    }

    #[tokio::test]
    async fn a_listener_that_does_not_answer_is_not_served() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = nobody.local_addr().unwrap();
        let asked = tokio::time::timeout(Duration::from_millis(200), is_served(address));
        assert!(asked.await.is_err(), "it waits for an answer");
        drop(nobody);
        assert!(is_served(address).await.is_err());
    }
}
