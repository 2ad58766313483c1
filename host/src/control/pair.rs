//! The pair, as an operator sees it, and what an operator asks of it.

use std::{io, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{Body, Shared, drill::Drills, wire};
use crate::{
    machine,
    model::pair::{
        InSync, Role,
        ready::{Ahead, Lack, Prepared, Readiness, What},
    },
    net::{keys::Rotation, problem::Problem},
    replication::{Notices, Quarantine, Seen},
    takeover::{
        View,
        step::{Event, Handover, Phase, State as Roles, Sync, Witness},
    },
};

/// How long changing roles may take before it is said that it did not work.
const PATIENCE: Duration = Duration::from_secs(35);

/// What is known of the pair, and where to ask for something.
#[derive(Debug, Clone)]
pub struct Pair {
    pub is_main: bool,
    /// What happens without a primary, in a sentence.
    pub policy: String,
    pub view: watch::Receiver<View>,
    pub seen: watch::Receiver<Option<Seen>>,
    pub serving: watch::Receiver<bool>,
    pub events: mpsc::Sender<Event>,
    pub quarantine: Arc<Quarantine>,
    /// How this node finds itself, while it is standby.
    pub ready: watch::Receiver<Option<Arc<Readiness>>>,
    /// How the other does, while there is a link.
    pub other_ready: watch::Receiver<Option<Arc<Readiness>>>,
    pub ahead: watch::Receiver<Option<Ahead>>,
    pub drills: Drills,
    pub rotation: Rotation,
    pub notices: Arc<Notices>,
}

pub(super) fn pair(house: &super::House) -> Result<&Pair, Problem> {
    house.pair.as_ref().ok_or_else(|| {
        let detail = "this node is alone: its configuration has no [pair]";
        Problem::new(StatusCode::CONFLICT, "no-pair", detail)
    })
}

pub(super) async fn show(State(house): Shared) -> Result<Json<wire::Pair>, Problem> {
    Ok(Json(describe(pair(&house)?)))
}

impl Pair {
    pub(super) fn role(&self) -> Role {
        self.view.borrow().state.role()
    }

    /// What an operator should know.
    pub(super) fn warnings(&self) -> Vec<String> {
        let view = self.view.borrow();
        let mut warnings = Vec::new();
        if !view.state.rules.goes_on_alone && view.lacks_standby() {
            warnings.push(
                "The other node is not in sync: no message is taken in until it is, as `mode` is `strict`."
                    .to_owned(),
            );
        } else if let Phase::Primary(leading) = &view.state.phase
            && leading.sync != Sync::Both
        {
            warnings.push(
                "The other node is not in sync: a receipt means one disk, and the other cannot take over."
                    .to_owned(),
            );
        }
        if view.state.witness == Witness::Silent {
            warnings.push(
                "The witness does not answer: nothing stops, but no node can take over.".to_owned(),
            );
        }
        if view.state.witness == Witness::Forgot {
            warnings.push(
                "The witness has lost its record, or has an older one than before: no node can take over. With both nodes in sync, \
                 stop the witness, move its folder away and start it again."
                    .to_owned(),
            );
        }
        if view.state.phase == Phase::Accepting {
            warnings.push(
                "This node does not hear the primary: it takes messages in and handles none, until the primary is there again or \
                 `tandem pair promote` makes this node primary."
                    .to_owned(),
            );
        }
        if matches!(view.state.phase, Phase::Starting { .. } | Phase::Candidate) {
            warnings.push("No node is primary as far as this one knows: messages wait.".to_owned());
        }
        drop(view);
        if let Some(standby) = self.standby() {
            let who = if self.role() == Role::Standby { "This node" } else { "The standby" };
            // Said above already, where the primary is asked.
            let is_said = |lack: &Lack| {
                self.role() == Role::Primary && matches!(lack.what, What::Link | What::InSync)
            };
            let lacks = standby.lacks.iter().filter(|lack| !is_said(lack));
            warnings.extend(lacks.map(|lack| format!("{who} is not ready to take over: {lack}.")));
        }
        warnings.extend(self.notices.list());
        warnings
    }

    /// What is known of the standby, whichever of the two that is.
    fn standby(&self) -> Option<Arc<Readiness>> {
        match self.role() {
            Role::Standby => self.ready.borrow().clone(),
            Role::Primary => self.other_ready.borrow().clone(),
            Role::Starting | Role::Accepting => None,
        }
    }

    /// Whether the standby could take over, as far as this node knows.
    pub(super) fn is_ready(&self) -> bool {
        self.standby().is_some_and(|standby| standby.lacks.is_empty())
    }

    fn describe_standby(&self) -> Option<wire::Standby> {
        let readiness = self.standby()?;
        let state = &self.view.borrow().state;
        let node = match state.role() {
            Role::Primary => state.peer.as_ref().map(|peer| peer.store)?,
            _ => state.rules.me,
        };
        let lack = |lack: &Lack| wire::Lack {
            what: lack.what.word().to_owned(),
            why: lack.why.clone(),
            remedy: lack.remedy.clone(),
        };
        let component = |prepared: &Prepared| wire::Component {
            solution: prepared.solution.to_string(),
            revision: prepared.revision,
            digest: prepared.digest.to_string(),
            took_ms: prepared.took_ms,
            fault: prepared.fault.clone(),
        };
        Some(wire::Standby {
            node: node.to_string(),
            ready: readiness.lacks.is_empty(),
            lacks: readiness.lacks.iter().map(lack).collect(),
            components: readiness.components.iter().map(component).collect(),
        })
    }
}

fn describe(pair: &Pair) -> wire::Pair {
    let view = pair.view.borrow().clone();
    let state = &view.state;
    let (sync, handing_over) = match &state.phase {
        Phase::Primary(leading) => {
            let sync = match leading.sync {
                Sync::Both => "both",
                Sync::Alone => "alone",
                Sync::Joining { .. } => "joining",
                Sync::Shrinking => "shrinking",
            };
            (Some(sync.to_owned()), leading.handover != Handover::No)
        }
        _ => (None, false),
    };
    let seen = pair.seen.borrow().clone();
    let now = view.facts.now;
    let peer = state.peer.as_ref().map(|peer| wire::Peer {
        node: peer.store.to_string(),
        role: peer.standing.role.word().to_owned(),
        epoch: peer.standing.epoch,
        is_main: peer.is_main,
        linked: peer.is_up,
        heard_ms_ago: u64::try_from(now.saturating_sub(peer.heard).as_millis()).unwrap_or(u64::MAX),
        hooks: seen.as_ref().and_then(Seen::hooks),
        program: seen.as_ref().map(|seen| seen.hello.program.clone()),
    });
    wire::Pair {
        node: state.rules.me.to_string(),
        role: state.role().word().to_owned(),
        is_main: pair.is_main,
        epoch: state.standing().epoch,
        sync,
        handing_over,
        head: view.facts.head,
        peer_has: (view.facts.peer_has > 0).then_some(view.facts.peer_has),
        record: state.kept.record.map(|record| wire::Record {
            epoch: record.epoch,
            owner: record.owner.to_string(),
            in_sync: match record.in_sync {
                InSync::Only(one) => vec![one.to_string()],
                InSync::Both(one, other) => vec![one.to_string(), other.to_string()],
            },
            version: record.version,
        }),
        witness: witness_word(state).to_owned(),
        policy: pair.policy.clone(),
        peer,
        standby: pair.describe_standby(),
        clock_ahead_ms: pair.ahead.borrow().map(Ahead::about_ms),
        warnings: pair.warnings(),
    }
}

fn witness_word(state: &Roles) -> &'static str {
    if !state.rules.has_witness {
        return "none";
    }
    match state.witness {
        Witness::Answers => "answers",
        Witness::Silent => "silent",
        Witness::Forgot => "forgot",
    }
}

/// Exchanges the roles; answers when the other node has taken over.
pub(super) async fn switch_over(State(house): Shared) -> Result<Json<wire::Switched>, Problem> {
    let pair = pair(&house)?;
    let refuse = |why: &str| {
        let detail = format!("{why}; `tandem pair status` shows how the nodes are");
        Problem::new(StatusCode::CONFLICT, "no-switchover", detail)
    };
    let lacks = pair.view.borrow().state.handover_lacks();
    if let Some(why) = lacks {
        return Err(refuse(why));
    }
    let began = Instant::now();
    let mut view = pair.view.clone();
    pair.events.send(Event::Switchover).await.map_err(|_| refuse("this node is stopping"))?;
    let mut has_begun = false;
    let ended = view.wait_for(|view| {
        if let Phase::Primary(leading) = &view.state.phase {
            let is_under_way = leading.handover != Handover::No;
            has_begun |= is_under_way;
            // Or it was given up.
            return (has_begun && !is_under_way) || leading.sync != Sync::Both;
        }
        let peer = view.state.peer.as_ref();
        view.state.role() == Role::Standby
            && peer.is_some_and(|peer| peer.standing.role == Role::Primary)
    });
    match tokio::time::timeout(PATIENCE, ended).await {
        Ok(Ok(view)) if view.state.role() == Role::Primary => {
            let lacks = view.state.handover_lacks().unwrap_or("it took too long");
            Err(refuse(&format!("this node stays primary, because {lacks}")))
        }
        Ok(Ok(view)) => Ok(Json(wire::Switched {
            epoch: view.standing().epoch,
            took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        })),
        _ => Err(refuse("the other node has not taken over")),
    }
}

/// Makes this node primary although the other does not say so.
pub(super) async fn promote(
    State(house): Shared,
    Body(wire::Promote { force }): Body<wire::Promote>,
) -> Result<Json<wire::Switched>, Problem> {
    let pair = pair(&house)?;
    let refuse = |why: String| Problem::new(StatusCode::CONFLICT, "no-promotion", why);
    {
        let view = pair.view.borrow();
        let state = &view.state;
        if state.role() == Role::Primary {
            return Err(refuse("this node is primary".to_owned()));
        }
        let is_heard = state.role() != Role::Accepting;
        if is_heard && state.peer.as_ref().is_some_and(|peer| peer.is_up) && !force {
            return Err(refuse(
                "the other node is there; `tandem pair switchover` exchanges the roles".to_owned(),
            ));
        }
        let in_sync = state.kept.record.is_some_and(|record| record.in_sync.has(state.rules.me));
        if !in_sync && !force {
            return Err(refuse(
                "this node was not in sync when it last heard of the other, so it may lack messages that have receipts; \
                 with --allow-data-loss it becomes primary all the same"
                    .to_owned(),
            ));
        }
    }
    let began = Instant::now();
    let mut view = pair.view.clone();
    let stopping = |_| refuse("this node is stopping".to_owned());
    pair.events.send(Event::Promote { force }).await.map_err(stopping)?;
    let changed = view.wait_for(|view| view.state.role() == Role::Primary);
    match tokio::time::timeout(PATIENCE, changed).await {
        Ok(Ok(view)) => Ok(Json(wire::Switched {
            epoch: view.standing().epoch,
            took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        })),
        _ => Err(refuse("who keeps the record did not let this node become primary".to_owned())),
    }
}

/// Gives this node another key, which the other has pinned first; answers when they are linked by it.
pub(super) async fn rotate(State(house): Shared) -> Result<Json<wire::Rotated>, Problem> {
    let pair = pair(&house)?;
    let refuse = |why: &str| {
        let detail = format!("{why}; `tandem pair status` shows how the nodes are");
        Problem::new(StatusCode::CONFLICT, "no-rotation", detail)
    };
    if !pair.view.borrow().state.peer.as_ref().is_some_and(|peer| peer.is_up) {
        return Err(refuse(
            "the other node is not there, and has to know the new key before this one uses it",
        ));
    }
    let began = Instant::now();
    let (mut own, mut seen) = (pair.rotation.own(), pair.seen.clone());
    let before = own.borrow_and_update().fingerprint();
    let rotation = pair.rotation.clone();
    let begun = machine::blocking(move || rotation.begin()).await;
    let key = begun.map_err(|error| Problem::internal(error.to_string()))?;
    let adopted = own.wait_for(|own| own.fingerprint() == key);
    if tokio::time::timeout(PATIENCE, adopted).await.is_err() {
        return Err(refuse(
            "the other node has not pinned the new key yet: this one keeps its key, and goes on with it as soon as there is a link",
        ));
    }
    seen.mark_unchanged();
    if tokio::time::timeout(PATIENCE, seen.changed()).await.is_err() {
        return Err(refuse("this node has its new key, and there is no link with it yet"));
    }
    Ok(Json(wire::Rotated {
        before: before.to_string(),
        key: key.to_string(),
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    }))
}

fn unreadable(error: io::Error) -> Problem {
    Problem::internal(format!("the quarantine cannot be used: {error}"))
}

fn unknown(id: &str) -> Problem {
    let detail = format!(
        "nothing in this node's quarantine is called `{id}`; `tandem pair quarantine list` shows what there is, on each node its own"
    );
    Problem::new(StatusCode::NOT_FOUND, "unknown-quarantine", detail)
}

/// What this node has set aside.
pub(super) async fn quarantine(State(house): Shared) -> Result<Json<wire::Quarantine>, Problem> {
    let reports = pair(&house)?.quarantine.list().map_err(unreadable)?;
    let warning = (!reports.is_empty()).then(|| {
        "What handling the messages did on this node while the other was primary, too, is not carried over: its state \
         is in the folder of each entry."
            .to_owned()
    });
    Ok(Json(wire::Quarantine { entries: reports, warning }))
}

/// One entry, with its messages.
pub(super) async fn quarantined(
    State(house): Shared,
    Path(id): Path<String>,
) -> Result<Json<wire::Quarantined>, Problem> {
    let found = pair(&house)?.quarantine.messages(&id).map_err(unreadable)?;
    let (report, messages) = found.ok_or_else(|| unknown(&id))?;
    let messages = messages.into_iter().map(|recovered| wire::QuarantinedMessage {
        id: recovered.id.to_string(),
        solution: recovered.message.solution.to_string(),
        source: recovered.message.source.to_string(),
        time_ms: recovered.message.time_ms,
        bytes: recovered.message.body.len() as u64,
    });
    Ok(Json(wire::Quarantined { report, messages: messages.collect() }))
}

/// Brings the messages to the primary again.
pub(super) async fn replay(
    State(house): Shared,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let found = pair(&house)?.quarantine.replay(&id).map_err(unreadable)?;
    if found { Ok(StatusCode::NO_CONTENT) } else { Err(unknown(&id)) }
}

/// Deletes an entry for good.
pub(super) async fn discard(
    State(house): Shared,
    Path(id): Path<String>,
    Body(wire::Discard { reason }): Body<wire::Discard>,
) -> Result<StatusCode, Problem> {
    if reason.trim().is_empty() {
        return Err(Problem::bad_request(
            "no-reason",
            "say why, for the node's log: `reason` is empty",
        ));
    }
    let found = pair(&house)?.quarantine.discard(&id, &reason).map_err(unreadable)?;
    if found { Ok(StatusCode::NO_CONTENT) } else { Err(unknown(&id)) }
}
