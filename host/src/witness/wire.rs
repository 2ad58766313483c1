//! What server and client of a witness say to each other, besides `Ask` and problems.

use serde::{Deserialize, Serialize};

use crate::model::pair::Record;

/// Before the pair's identity.
pub(super) const PAIRS: &str = "/v1/pairs/";

/// The answer to every ask.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub record: Option<Record>,
}
