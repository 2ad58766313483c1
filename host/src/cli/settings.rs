//! `tandem settings`: values that an operator sets and solutions read.

use serde_json::Value;

use crate::control::wire::Setting;

use super::{
    exit::{Exit, Failure},
    node_client::Call,
    output::{Output, cut},
    quantity::moment,
    table::{Cell, Table},
    target::NodeArgs,
};

/// What the API calls settings that are no solution's own.
const GLOBAL: &str = "global";

/// List, get, set and unset settings
///
/// A solution reads its own value of a name, else the global one. Changes count from the next message on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tandem settings set crm_url https://crm.example.com --solution lead-router
  tandem settings get crm_url --solution lead-router
  tandem settings list")]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List settings (the default)
    #[command(after_help = "Examples:
  tandem settings list
  tandem settings list --solution lead-router")]
    List {
        /// Only this solution's own
        #[arg(long)]
        solution: Option<String>,
    },

    /// Print one value, as JSON
    #[command(after_help = "Examples:
  tandem settings get currency
  tandem settings get crm_url --solution lead-router | jq -r .")]
    Get {
        name: String,
        /// This solution's own value, not the global one
        #[arg(long)]
        solution: Option<String>,
    },

    /// Set a value
    ///
    /// VALUE is taken as JSON if it is JSON (true, 42, "text", {"a": 1}), else as a text. For the text "42" write '"42"'.
    #[command(after_help = "Examples:
  tandem settings set currency EUR
  tandem settings set crm_url https://crm.example.com --solution lead-router
  tandem settings set regions '{\"AT\": \"emea\", \"US\": \"amer\"}' --solution lead-router")]
    Set {
        name: String,
        /// JSON, or else a text
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// Only for this solution
        #[arg(long)]
        solution: Option<String>,
    },

    /// Take a value away
    #[command(after_help = "Examples:
  tandem settings unset currency
  tandem settings unset crm_url --solution lead-router")]
    Unset {
        name: String,
        /// This solution's own value, not the global one
        #[arg(long)]
        solution: Option<String>,
    },
}

pub async fn run(args: Args, output: Output) -> Result<(), Failure> {
    let node = args.node.client()?;
    match args.action.unwrap_or(Action::List { solution: None }) {
        Action::List { solution } => {
            let mut settings: Vec<Setting> = node.read(Call::get(["settings"])).await?;
            settings.retain(|s| solution.as_ref().is_none_or(|name| s.scope == *name));
            list(&settings, output)
        }
        Action::Get { name, solution } => {
            let settings: Vec<Setting> = node.read(Call::get(["settings"])).await?;
            let scope = solution.as_deref().unwrap_or(GLOBAL);
            let setting = find(&settings, scope, &name)?;
            if output.is_json() { output.json(setting) } else { output.json(&setting.value) }
        }
        Action::Set { name, value, solution } => {
            let scope = solution.as_deref().unwrap_or(GLOBAL);
            let value = value_of(value);
            node.call(Call::put(["settings", scope, &name]).json(&value)).await?;
            if output.is_json() {
                return output
                    .json(&serde_json::json!({"scope": scope, "name": name, "value": value}));
            }
            output.line(format_args!("{scope}/{name} = {value}"))
        }
        Action::Unset { name, solution } => {
            let scope = solution.as_deref().unwrap_or(GLOBAL);
            node.call(Call::delete(["settings", scope, &name])).await?;
            if output.is_json() {
                Ok(())
            } else {
                output.line(format_args!("{scope}/{name} is unset"))
            }
        }
    }
}

fn value_of(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

fn find<'a>(settings: &'a [Setting], scope: &str, name: &str) -> Result<&'a Setting, Failure> {
    let of_name = |s: &&Setting| s.name == name;
    settings.iter().filter(of_name).find(|s| s.scope == scope).ok_or_else(|| {
        let failure = Failure::new(
            Exit::NotFound,
            "unknown-setting",
            format!("the setting {scope}/{name} is not set"),
        );
        let elsewhere: Vec<&str> =
            settings.iter().filter(of_name).map(|s| s.scope.as_str()).collect();
        match elsewhere.as_slice() {
            [] => failure.next(format!("set it: tandem settings set {name} VALUE")),
            scopes => failure.next(format!("it is set for: {}", scopes.join(", "))),
        }
    })
}

fn list(settings: &[Setting], output: Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.json(&settings);
    }
    if settings.is_empty() {
        output.note("no settings");
        return Ok(());
    }
    let mut table = Table::new(&["SCOPE", "NAME", "SET", "VALUE"]);
    for setting in settings {
        table.row([
            Cell::plain(&setting.scope),
            Cell::plain(&setting.name),
            Cell::plain(&moment(setting.set_ms)),
            Cell::plain(&cut(&setting.value.to_string(), 100)),
        ]);
    }
    table.print(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_is_json_if_it_is_json() {
        for (text, value) in [
            ("EUR", json!("EUR")),
            ("42", json!(42)),
            ("\"42\"", json!("42")),
            ("https://crm.example.com", json!("https://crm.example.com")),
            ("{\"a\": [1]}", json!({"a": [1]})),
            ("", json!("")),
        ] {
            assert_eq!(value_of(text.to_owned()), value, "{text}");
        }
    }

    #[test]
    fn a_setting_of_another_scope_is_pointed_at() {
        let settings =
            [Setting { scope: "s".into(), name: "a".into(), value: json!(1), set_ms: 0 }];
        assert!(find(&settings, "s", "a").is_ok());
        let failure = find(&settings, GLOBAL, "a").unwrap_err();
        assert_eq!(
            (failure.exit, failure.next.unwrap()),
            (Exit::NotFound, "it is set for: s".into())
        );
        assert!(find(&settings, GLOBAL, "b").unwrap_err().next.unwrap().contains("settings set b"));
    }
}
