//! An operator sets or unsets a value.

use super::{Change, ChangeError, Refusal};
use crate::{
    model::name::Name,
    store::{
        row::setting::{Scope, SettingRow, setting_key},
        sequencer::Sequencer,
        table::Table,
    },
};

#[derive(Debug)]
pub struct SetSetting {
    pub scope: Scope,
    pub name: Name,
    /// JSON text.
    pub json: String,
}

impl Change for SetSetting {
    type Answer = ();

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        let Self { scope, name, json } = self;
        // Settings may be made before the solution is deployed, so that it starts right.
        let row = SettingRow { json, set_ms: seq.now_ms() };
        seq.put(Table::Settings, &setting_key(&scope, &name), &row);
        seq.catalogue_changed();
        Ok(())
    }
}

#[derive(Debug)]
pub struct UnsetSetting {
    pub scope: Scope,
    pub name: Name,
}

impl Change for UnsetSetting {
    type Answer = ();

    fn sequence(self, seq: &mut Sequencer<'_, '_>) -> Result<(), ChangeError> {
        let Self { scope, name } = self;
        let key = setting_key(&scope, &name);
        if !seq.contains(Table::Settings, &key)? {
            return Err(Refusal::UnknownSetting { scope: scope.word().to_owned(), name }.into());
        }
        seq.delete(Table::Settings, &key);
        seq.catalogue_changed();
        Ok(())
    }
}
