//! A takeover on a copy: asked for here, done by the node.

use axum::{Json, extract::State, http::StatusCode};
use tokio::sync::{mpsc, watch};

use super::{Shared, pair, wire};
use crate::{model::pair::Role, net::problem::Problem};

/// Asked of the standby, whichever node hears it.
pub const DRILL: &str = "/api/v1/pair/drill";

/// Where drills are asked for, and how the last one went.
#[derive(Debug, Clone)]
pub struct Drills {
    /// One at a time.
    pub ask: mpsc::Sender<()>,
    pub report: watch::Receiver<Option<wire::Drill>>,
}

/// How the last drill of this node went, or how far it is.
pub(super) async fn show(State(house): Shared) -> Result<Json<wire::Drill>, Problem> {
    let report = pair::pair(&house)?.drills.report.borrow().clone();
    let none = || {
        let detail =
            "there was no drill on this node since it started; `tandem pair drill` makes one";
        Problem::new(StatusCode::NOT_FOUND, "no-drill", detail)
    };
    report.map(Json).ok_or_else(none)
}

/// Begins one.
pub(super) async fn begin(State(house): Shared) -> Result<StatusCode, Problem> {
    let pair = pair::pair(&house)?;
    let refuse = |why: &str| Err(Problem::new(StatusCode::CONFLICT, "drill-refused", why));
    if pair.role() != Role::Standby {
        return refuse(
            "a drill is done on the standby, and there is none now; `tandem pair status` shows how the nodes are",
        );
    }
    let is_running =
        pair.drills.report.borrow().as_ref().is_some_and(|drill| drill.state == "running");
    let mut report = pair.drills.report.clone();
    report.mark_unchanged();
    if is_running || pair.drills.ask.try_send(()).is_err() {
        return refuse("a drill is running; wait until it has ended");
    }
    // Who looks from now on sees this one.
    report.changed().await.map_err(|_| Problem::internal("this node is stopping"))?;
    Ok(StatusCode::ACCEPTED)
}
