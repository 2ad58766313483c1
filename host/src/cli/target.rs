//! `--node` and `--token`: which node a command talks to.

use super::{exit::Failure, node_client::NodeClient};

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Node")]
pub struct NodeArgs {
    /// The node to talk to
    #[arg(long, global = true, value_name = "URL", env = "TANDEM_NODE", hide_env_values = true)]
    #[arg(default_value = "http://127.0.0.1:7400")]
    node: String,

    /// The token to show it, sent as `Authorization: Bearer`
    #[arg(long, global = true, value_name = "TOKEN", env = "TANDEM_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl NodeArgs {
    pub fn client(&self) -> Result<NodeClient, Failure> {
        Ok(NodeClient::new(&self.node, self.token.as_deref().filter(|token| !token.is_empty()))?)
    }
}
