//! Values an operator sets and a solution reads.

use std::{error::Error, fmt};

use serde::de::DeserializeOwned;

pub(crate) fn read<T: DeserializeOwned>(
    name: &str,
    json: Option<String>,
) -> Result<Option<T>, SettingError> {
    json.map(|json| serde_json::from_str(&json))
        .transpose()
        .map_err(|error| SettingError::Invalid { name: name.to_owned(), error })
}

/// Why a setting could not be had. Its text says which command puts it right.
#[derive(Debug)]
#[non_exhaustive]
pub enum SettingError {
    /// Nobody has set it.
    Missing {
        /// Of the setting.
        name: String,
    },
    /// It is not of the type that was asked for.
    Invalid {
        /// Of the setting.
        name: String,
        /// What is wrong with it.
        error: serde_json::Error,
    },
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Missing { name } => {
                write!(f, "setting `{name}` is not set")?;
                name
            }
            Self::Invalid { name, error } => {
                write!(f, "setting `{name}` has a value that does not fit: {error}")?;
                name
            }
        };
        write!(f, "; run `tandem settings set {name} VALUE --solution SOLUTION`")
    }
}

impl Error for SettingError {}
