//! Why a component cannot run here: each fault with its facts, its text and what to do about it.

use crate::model::limits::COMPONENT_BYTES_MAX;

/// One reason to refuse a component. `check` gives all it can find.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComponentFault {
    #[error("the file is empty")]
    Empty,
    #[error("the component is {size_bytes} bytes; the most is {COMPONENT_BYTES_MAX}")]
    TooLarge { size_bytes: usize },
    #[error("the file is WebAssembly in its text form, not a component")]
    Text,
    #[error(
        "the file is compiled machine code; Tandem compiles components itself and takes no other's code"
    )]
    Precompiled,
    #[error("the file is a core WebAssembly module, not a component")]
    CoreModule,
    #[error("the file is no WebAssembly: it begins with {begins:02x?}")]
    NotWasm { begins: Vec<u8> },
    #[error("the component does not compile: {reason}")]
    Compile { reason: String },
    #[error("the component imports `{import}`, which Tandem does not have{}", closest_text(closest.as_deref()))]
    UnknownImport { import: String, closest: Option<String> },
    #[error("the component imports `{import}`; this version of Tandem has `{linked}`")]
    OtherVersion { import: String, linked: String },
    #[error("the component imports `{import}`, but solution.toml grants no `{grant}`")]
    NotGranted { import: String, grant: &'static str },
    #[error("the component exports no `handle`; it exports {}", list(found))]
    NoHandle { found: Vec<String> },
    #[error("the component's export `handle` is not what a solution exports: {reason}")]
    OtherHandle { reason: String },
    #[error(
        "the component begins with {needs_bytes} bytes of memory, but [limits] memory is {limit_bytes}"
    )]
    MemoryLimit { needs_bytes: u64, limit_bytes: u64 },
    #[error("the component has {count} {what}; the most is {max}")]
    DoesNotFit { what: &'static str, count: u64, max: u64 },
    #[error("the component's imports do not fit what Tandem has: {reason}")]
    Link { reason: String },
    #[error("the component could not be started: {reason}")]
    Start { reason: String },
    #[error("the component could not be tried: {reason}")]
    Host { reason: String },
}

impl ComponentFault {
    /// What to do about it, where that can be said.
    pub fn fix(&self) -> Option<String> {
        let text = match self {
            Self::Empty | Self::NotWasm { .. } => {
                "name the component: the .wasm file that `tandem build` makes".to_owned()
            }
            Self::Text => "turn it into its binary form with `wasm-tools parse`".to_owned(),
            Self::Precompiled => "name the .wasm file that it was compiled from".to_owned(),
            Self::CoreModule => {
                "build it with `tandem build`, or with `cargo build --target wasm32-wasip2`"
                    .to_owned()
            }
            Self::TooLarge { .. } => {
                "build it with `tandem build`, which leaves debug information out".to_owned()
            }
            Self::UnknownImport { .. } => {
                "build it against the package `tandem:solution` and WASI 0.2 only".to_owned()
            }
            Self::OtherVersion { linked, .. } => {
                format!("build it against `{linked}`, or use a Tandem that has the other")
            }
            Self::NotGranted { grant, .. } => format!("add {} under [grants]", grant_line(grant)),
            Self::NoHandle { .. } | Self::OtherHandle { .. } => {
                format!("export `{HANDLE}` of the world `tandem:solution/solution@0.1.0`")
            }
            Self::MemoryLimit { needs_bytes, .. } => {
                format!(
                    "set memory = \"{}MiB\" or more under [limits]",
                    needs_bytes.div_ceil(1 << 20)
                )
            }
            Self::Compile { .. }
            | Self::DoesNotFit { .. }
            | Self::Link { .. }
            | Self::Start { .. }
            | Self::Host { .. } => return None,
        };
        Some(text)
    }
}

/// The export that makes a component a solution.
pub(super) const HANDLE: &str = "handle: func(message: message) -> result<option<reply>, failure>";

fn grant_line(grant: &str) -> &'static str {
    match grant {
        "publish" => "`publish = [\"SOLUTION\"]`, with the solutions it may publish to,",
        "http" => "`http = [\"https://HOST\"]`, with the hosts it may look things up at,",
        _ => "`outbox = [\"https://HOST\"]`, with the hosts its requests may go to,",
    }
}

fn closest_text(closest: Option<&str>) -> String {
    closest.map_or_else(String::new, |closest| format!("; did you mean `{closest}`?"))
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}
