//! Who may be primary, recorded by a third: asked when membership or ownership changes, never for a message.
//!
//! The rules are [`Record::after`]'s; here is where the record is kept: by a small server, `tandem witness`, or in a folder
//! that both nodes see. Not here: what a node makes of a record.

use std::{fmt, fs::File, io, path::Path, path::PathBuf, time::Duration};

use crate::{
    model::pair::{Ask, PairId, Record},
    net::http_client::CallError,
};

use self::{folder::Folder, remote::Remote};

mod folder;
mod kept;
pub mod register;
mod remote;
pub mod server;
mod wire;

#[cfg(any(test, fuzzing))]
pub use folder::fuzz;

#[cfg(test)]
mod tests;

/// Where a witness is and how long it is waited for.
#[derive(Debug, Clone)]
pub struct Config {
    pub place: Place,
    /// What a server has to be shown; a folder has the rights of its files.
    pub token: Option<Token>,
    pub connect_timeout: Duration,
    /// For all of an ask.
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `host:port` of a `tandem witness`.
    Server(String),
    /// A folder that both nodes see. It has to be there: where a share is not mounted there is none.
    Folder(PathBuf),
}

/// What the nodes of a pair share, so that nobody else asks for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// A text that cannot be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token has 1 to 512 printable ASCII characters and no blanks")]
pub struct BadToken;

/// Keeps the record. Clones ask the same one.
#[derive(Debug, Clone)]
pub enum Witness {
    Server(Remote),
    Folder(Folder),
}

/// Why there is no record to see. Unless it was refused, nobody knows whether the ask came through: a later
/// [`Ask::Read`] shows it.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    #[error("the witness at {at} gives no answer: {source}; is `tandem witness` running there?")]
    NoAnswer { at: String, source: CallError },
    /// Asking again does not help, but for a status of 500 or more.
    #[error("the witness at {at} refuses: {detail} [{code}]")]
    Refused { at: String, status: u16, code: String, detail: String },
    #[error(
        "what answers at {at} is no witness of this version: {why}; does `witness` name a `tandem witness`?"
    )]
    Strange { at: String, why: String },
    #[error(
        "cannot {doing} in the witness's folder {}: {source}; is it there, and may this user write into it?",
        dir.display()
    )]
    Folder { dir: PathBuf, doing: &'static str, source: io::Error },
    #[error("{} was written by a newer version of tandem; run that version here", file.display())]
    Newer { file: PathBuf },
    #[error("the witness's folder {} gives no answer within {after:?}; is its server there?", dir.display())]
    Stuck { dir: PathBuf, after: Duration },
}

impl Config {
    pub fn new(place: Place) -> Self {
        let (connect_timeout, timeout) = (Duration::from_secs(1), Duration::from_secs(2));
        Self { place, token: None, connect_timeout, timeout }
    }
}

impl Witness {
    pub fn new(config: &Config) -> Self {
        match &config.place {
            Place::Server(at) => Self::Server(Remote::new(at.clone(), config)),
            Place::Folder(dir) => Self::Folder(Folder::new(dir.clone(), config.timeout)),
        }
    }

    /// The record as it is after `ask`: whether that was granted shows in it. None where nothing is recorded, which
    /// only [`Ask::Begin`] changes.
    pub async fn ask(&self, pair: PairId, ask: &Ask) -> Result<Option<Record>, WitnessError> {
        match self {
            Self::Server(server) => server.ask(pair, ask).await,
            Self::Folder(folder) => folder.ask(pair, ask).await,
        }
    }
}

impl Token {
    const BYTES_MAX: usize = 512;

    pub fn new(text: impl Into<String>) -> Result<Self, BadToken> {
        let text = text.into();
        let right = !text.is_empty()
            && text.len() <= Self::BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        right.then_some(Self(text)).ok_or(BadToken)
    }
}

/// Never what it says.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Makes the names in a folder durable.
fn sync_folder(dir: &Path) -> io::Result<()> {
    match File::open(dir)?.sync_all() {
        // Not every kind of share can do this for a folder; those do it with each change.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        done => done,
    }
}
