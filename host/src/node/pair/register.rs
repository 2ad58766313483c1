//! The witness of this pair, if it has one.

use std::sync::{Arc, OnceLock};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

use crate::{
    model::pair::Ask,
    net::keys::{PairFolder, Shared},
    node::config,
    takeover::{Answered, Register},
    witness::{self, Witness},
};

/// The witness, for this pair.
#[derive(Debug)]
struct OfPair {
    place: witness::Place,
    folder: PairFolder,
    /// Once there is a pair: what the witness is shown comes with the first invitation, or with joining.
    witness: OnceLock<Witness>,
}

pub(super) fn register(place: &config::Witness, folder: &PairFolder) -> Arc<dyn Register> {
    let place = match place {
        config::Witness::Server(address) => witness::Place::Server(address.clone()),
        config::Witness::Folder(path) => witness::Place::Folder(path.clone()),
    };
    Arc::new(OfPair { place, folder: folder.clone(), witness: OnceLock::new() })
}

impl OfPair {
    fn witness(&self, shared: &Shared) -> &Witness {
        self.witness.get_or_init(|| {
            let mut config = witness::Config::new(self.place.clone());
            config.token = witness::Token::new(STANDARD_NO_PAD.encode(shared.witness_token)).ok();
            Witness::new(&config)
        })
    }
}

impl Register for OfPair {
    fn ask(&self, ask: Ask) -> Answered<'_> {
        Box::pin(async move {
            let shared = match self.folder.shared() {
                Ok(Some(shared)) => shared,
                Ok(None) => return Err("this node belongs to no pair yet".to_owned()),
                Err(error) => return Err(error.to_string()),
            };
            let answer = self.witness(&shared).ask(shared.pair, &ask).await;
            answer.map_err(|error| error.to_string())
        })
    }
}
