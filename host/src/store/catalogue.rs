//! Solutions and settings as they are now, in memory, for everyone who looks them up per message.

use std::{collections::BTreeMap, sync::Arc};

use redb::ReadableTable;

use super::{
    pieces::join,
    row::{
        Row, SolutionNo,
        setting::{Scope, SettingRow, read_setting_key},
        solution::{NEXT_SOLUTION_KEY, SolutionRow, VersionRow},
    },
    snapshot::ReadError,
    table::Table,
};
use crate::{
    contract::manifest::{Manifest, parse},
    model::{
        clock::UnixMs,
        name::{Digest, Name},
    },
};

/// Everything that is deployed and set.
#[derive(Debug, Default)]
pub struct Catalogue {
    pub solutions: BTreeMap<Name, Arc<Solution>>,
    by_no: BTreeMap<SolutionNo, Arc<Solution>>,
    settings: BTreeMap<Scope, BTreeMap<Name, Setting>>,
}

/// A deployed solution.
#[derive(Debug)]
pub struct Solution {
    pub name: Name,
    pub no: SolutionNo,
    /// Of the active version; a text if this program cannot read the manifest any more.
    pub manifest: Result<Manifest, String>,
    pub revision: u32,
    pub digest: Digest,
    pub paused: Option<String>,
    pub paused_sources: BTreeMap<Name, String>,
    pub versions: Vec<VersionRow>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// JSON text.
    pub json: Arc<str>,
    pub set_ms: UnixMs,
}

impl Catalogue {
    pub(super) fn read(
        solutions: &impl ReadableTable<&'static [u8], &'static [u8]>,
        settings: &impl ReadableTable<&'static [u8], &'static [u8]>,
        pieces: &impl ReadableTable<&'static [u8], &'static [u8]>,
    ) -> Result<Self, ReadError> {
        let mut catalogue = Self::default();
        for entry in solutions.iter()? {
            let (key, value) = entry?;
            if key.value() == NEXT_SOLUTION_KEY {
                continue;
            }
            let name = std::str::from_utf8(key.value()).ok().and_then(|name| name.parse().ok());
            let name: Name = name.ok_or(ReadError::Key("solutions"))?;
            let row = join(pieces, Table::Solutions, key.value(), value.value())?;
            let row = SolutionRow::decode(&row)?;
            let solution = Arc::new(Solution::new(name.clone(), row));
            catalogue.by_no.insert(solution.no, solution.clone());
            catalogue.solutions.insert(name, solution);
        }
        for entry in settings.iter()? {
            let (key, value) = entry?;
            let (scope, name) = read_setting_key(key.value()).ok_or(ReadError::Key("settings"))?;
            let row = join(pieces, Table::Settings, key.value(), value.value())?;
            let SettingRow { json, set_ms } = SettingRow::decode(&row)?;
            let setting = Setting { json: json.into(), set_ms };
            catalogue.settings.entry(scope).or_default().insert(name, setting);
        }
        Ok(catalogue)
    }

    /// A solution that is deployed nowhere.
    #[cfg(any(test, fuzzing))]
    pub fn of_one(manifest: &str, paused_source: Option<&str>) -> Self {
        let version = VersionRow {
            revision: 1,
            digest: Digest([0; 32]),
            manifest: manifest.to_owned(),
            deployed_ms: 0,
        };
        let paused_sources =
            paused_source.map(|source| (source.parse().expect("a name"), "test".to_owned()));
        let row = SolutionRow {
            no: 1,
            active: 1,
            versions: vec![version],
            paused: None,
            paused_sources: paused_sources.into_iter().collect(),
        };
        let name: Name = "a".parse().expect("a name");
        let solution = Arc::new(Solution::new(name.clone(), row));
        Self {
            solutions: BTreeMap::from([(name, solution.clone())]),
            by_no: BTreeMap::from([(1, solution)]),
            settings: BTreeMap::new(),
        }
    }

    pub fn solution(&self, name: &str) -> Option<&Arc<Solution>> {
        self.solutions.get(name)
    }

    pub fn by_no(&self, no: SolutionNo) -> Option<&Arc<Solution>> {
        self.by_no.get(&no)
    }

    /// What `solution` sees under `name`: its own value, else the global one, as JSON text.
    pub fn setting(&self, solution: &Name, name: &str) -> Option<Arc<str>> {
        [Scope::Solution(solution.clone()), Scope::Global]
            .iter()
            .find_map(|scope| self.settings.get(scope)?.get(name))
            .map(|setting| setting.json.clone())
    }

    /// All settings, global ones first.
    pub fn settings(&self) -> impl Iterator<Item = (&Scope, &Name, &Setting)> {
        self.settings
            .iter()
            .flat_map(|(scope, of_scope)| of_scope.iter().map(move |(name, s)| (scope, name, s)))
    }
}

impl Solution {
    fn new(name: Name, row: SolutionRow) -> Self {
        let active = row.versions.iter().find(|version| version.revision == row.active);
        let manifest = active.map_or_else(
            || Err("its active version is missing".to_owned()),
            |version| parse::parse(&version.manifest).map_err(|errors| errors.to_string()),
        );
        Self {
            name,
            no: row.no,
            manifest,
            revision: row.active,
            digest: active.map_or(Digest([0; 32]), |version| version.digest),
            paused: row.paused,
            paused_sources: row.paused_sources,
            versions: row.versions,
        }
    }
}
