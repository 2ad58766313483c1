//! The witness of this pair, if it has one.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

use crate::{
    model::pair::{Ask, PairId},
    net::keys::PairFolder,
    node::config,
    takeover::{Answered, Register},
    witness::{self, Witness},
};

/// The witness, for this pair.
#[derive(Debug)]
struct OfPair {
    witness: Witness,
    folder: PairFolder,
}

pub(super) fn register(place: &config::Witness, folder: &PairFolder) -> Arc<dyn Register> {
    let place = match place {
        config::Witness::Server(address) => witness::Place::Server(address.clone()),
        config::Witness::Folder(path) => witness::Place::Folder(path.clone()),
    };
    let mut config = witness::Config::new(place);
    if let Ok(Some(shared)) = folder.shared() {
        config.token = witness::Token::new(STANDARD_NO_PAD.encode(shared.witness_token)).ok();
    }
    Arc::new(OfPair { witness: Witness::new(&config), folder: folder.clone() })
}

impl Register for OfPair {
    fn ask(&self, ask: Ask) -> Answered<'_> {
        Box::pin(async move {
            let pair: PairId = match self.folder.shared() {
                Ok(Some(shared)) => shared.pair,
                Ok(None) => return Err("this node belongs to no pair yet".to_owned()),
                Err(error) => return Err(error.to_string()),
            };
            self.witness.ask(pair, &ask).await.map_err(|error| error.to_string())
        })
    }
}
