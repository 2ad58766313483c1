//! A value that an operator set.
//!
//! Key: scope (a solution's name, or nothing for global), a zero byte, name.

use serde::{Deserialize, Serialize};

use super::{key, row};
use crate::model::{clock::UnixMs, name::Name};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingRow {
    /// JSON text.
    pub json: String,
    pub set_ms: UnixMs,
}

row!(SettingRow, "setting", version 1);

/// Who sees a setting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    Global,
    Solution(Name),
}

impl Scope {
    /// The word for it in the API and on the command line.
    pub fn word(&self) -> &str {
        match self {
            Self::Global => "global",
            Self::Solution(name) => name.as_str(),
        }
    }
}

pub fn setting_key(scope: &Scope, name: &Name) -> Vec<u8> {
    let scope = match scope {
        Scope::Global => "",
        Scope::Solution(name) => name.as_str(),
    };
    key([scope.as_bytes(), &[0], name.as_str().as_bytes()])
}

pub fn read_setting_key(key: &[u8]) -> Option<(Scope, Name)> {
    let (scope, name) = std::str::from_utf8(key).ok()?.split_once('\0')?;
    let scope = if scope.is_empty() { Scope::Global } else { Scope::Solution(scope.parse().ok()?) };
    Some((scope, name.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{super::check_round_trip, *};

    #[test]
    fn round_trip() {
        check_round_trip(&SettingRow { json: "1".into(), set_ms: 2 }, b"\x01\x011\x02");
        let name: Name = "n".parse().unwrap();
        for scope in [Scope::Global, Scope::Solution("s".parse().unwrap())] {
            assert_eq!(read_setting_key(&setting_key(&scope, &name)), Some((scope, name.clone())));
        }
    }
}
