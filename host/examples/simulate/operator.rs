//! Who deploys, changes settings and has the nodes change roles.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::{Value, json};
use tandem::net::http_client::Client;

use crate::{
    history::{Act, History},
    senders::client,
};

const PATIENCE: Duration = Duration::from_secs(40);
const ANSWER_BYTES: usize = 1 << 20;

/// See the module.
#[derive(Clone)]
pub struct Operator {
    pub nodes: [SocketAddr; 2],
    pub history: History,
    client: Client,
}

struct Example {
    manifest: &'static str,
    component: &'static [u8],
}

macro_rules! example {
    ($folder:literal, $component:literal) => {
        Example {
            manifest: include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../example-plugins/",
                $folder,
                "/solution.toml"
            )),
            component: include_bytes!(env!($component)),
        }
    };
}

/// Who is published to comes first.
static EXAMPLES: [Example; 4] = [
    example!("alerts", "TANDEM_COMPONENT_ALERTS"),
    example!("uptime-watch", "TANDEM_COMPONENT_UPTIME_WATCH"),
    example!("order-totals", "TANDEM_COMPONENT_ORDER_TOTALS"),
    example!("lead-router", "TANDEM_COMPONENT_LEAD_ROUTER"),
];

/// How requests are tried again.
const DELIVERY: &str =
    "[delivery]\nattempts = 100\nbackoff = \"100ms\"\nmax_backoff = \"1s\"\ntimeout = \"2s\"\n";

/// Every solution, the last one twice: once with requests that must not be made twice.
fn solutions() -> Vec<(String, &'static [u8])> {
    let with_delivery = |manifest: &str| {
        let own = manifest.split("[delivery]").next().unwrap_or(manifest);
        format!("{}\n{DELIVERY}", own.trim_end())
    };
    let mut all: Vec<_> = EXAMPLES
        .iter()
        .map(|example| (with_delivery(example.manifest), example.component))
        .collect();
    let [.., leads] = &EXAMPLES;
    let once =
        with_delivery(leads.manifest).replace("name = \"lead-router\"", "name = \"leads-once\"");
    all.push((format!("{once}class = \"at-most-once\"\n"), leads.component));
    all
}

impl Operator {
    pub fn new(nodes: [SocketAddr; 2], history: History) -> Self {
        Self { nodes, history, client: client() }
    }

    /// Deploys everything, at whichever node takes it.
    pub async fn begin(&self, receiver: SocketAddr) {
        for (manifest, component) in solutions() {
            self.surely(&deployment(&manifest, component)).await;
        }
        let url = json!(format!("http://{receiver}"));
        for (solution, name, value) in [
            ("lead-router", "crm_url", &url),
            ("leads-once", "crm_url", &url),
            ("alerts", "alert_url", &json!(format!("http://{receiver}/alerts"))),
            ("uptime-watch", "silent_after_seconds", &json!(2)),
        ] {
            self.surely(&setting(solution, name, value)).await;
        }
    }

    async fn surely(&self, ask: &Ask) {
        for turn in 0.. {
            if self.ask(self.nodes[turn % 2], ask).await.is_some_and(|(status, _)| status < 300) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Another description of a solution: another revision.
    pub async fn deploy(&self, node: usize, number: u64) {
        let (manifest, component) = solutions().swap_remove(2);
        let manifest =
            manifest.replace("version = \"0.1.0\"", &format!("version = \"0.1.{number}\""));
        let place = {
            let mut seen = self.history.see();
            let act = Act::begin(number, seen.now);
            seen.deployed.push(act);
            seen.deployed.len() - 1
        };
        let answer = self.ask(self.nodes[node], &deployment(&manifest, component)).await;
        let status = answer.map(|(status, _)| status);
        self.history.log(format!("operator: deployed version 0.1.{number}: {status:?}"));
        if status == Some(200) {
            let mut seen = self.history.see();
            seen.deploys += 1;
            seen.deployed[place].told = Some(seen.now);
        }
    }

    /// Counts upwards.
    pub async fn set(&self, node: usize) {
        let number = {
            let mut seen = self.history.see();
            let number = seen.settings.len() as u64;
            let act = Act::begin(number, seen.now);
            seen.settings.push(act);
            number
        };
        let answer =
            self.ask(self.nodes[node], &setting("order-totals", "n", &json!(number))).await;
        let status = answer.map(|(status, _)| status);
        self.history.log(format!("operator: setting {number}: {status:?}"));
        if status.is_some_and(|status| status < 300) {
            let mut seen = self.history.see();
            let now = seen.now;
            let act = seen.settings.iter_mut().find(|act| act.number == number);
            act.expect("it has begun").told = Some(now);
        }
    }

    pub async fn switch_over(&self, node: usize) {
        let ask = Ask { method: Method::POST, path: "pair/switchover".into(), body: json!({}) };
        let answer = self.ask(self.nodes[node], &ask).await;
        let status = answer.map(|(status, _)| status);
        self.history.log(format!("operator: switchover: {status:?}"));
        if status == Some(200) {
            self.history.see().switchovers += 1;
        }
    }

    async fn ask(&self, node: SocketAddr, ask: &Ask) -> Option<(u16, Value)> {
        let request = Request::builder()
            .method(ask.method.clone())
            .uri(format!("http://{node}/api/v1/{}", ask.path))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(ask.body.to_string())))
            .expect("it is right");
        let answer = self.client.request(request, PATIENCE, ANSWER_BYTES).await.ok()?;
        let body = serde_json::from_slice(&answer.body_prefix).unwrap_or_default();
        // A node that cannot do it now says so; anything else would be the operator's fault, which it is not.
        if answer.status >= 300 && !matches!(answer.status, 409 | 421 | 502 | 503 | 504 | 507) {
            let status = answer.status;
            self.history.violate(format!("{} was refused with {status}: {body}", ask.path));
        }
        Some((answer.status, body))
    }
}

struct Ask {
    method: Method,
    path: String,
    body: Value,
}

fn deployment(manifest: &str, component: &[u8]) -> Ask {
    let body = json!({"manifest": manifest, "component": STANDARD.encode(component)});
    Ask { method: Method::POST, path: "solutions".into(), body }
}

fn setting(solution: &str, name: &str, value: &Value) -> Ask {
    let path = format!("settings/{solution}/{name}");
    Ask { method: Method::PUT, path, body: value.clone() }
}
