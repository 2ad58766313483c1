//! The example solutions that the demo sends to, inside this program, and their deployment.

use std::net::SocketAddr;

use super::super::{
    deploy,
    exit::Failure,
    node_client::{Call, NodeClient},
    output::Output,
};

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

/// The build script builds them.
static EXAMPLES: [Example; 2] = [
    example!("order-totals", "TANDEM_COMPONENT_ORDER_TOTALS"),
    example!("lead-router", "TANDEM_COMPONENT_LEAD_ROUTER"),
];

/// The web hooks that the demo sends to: solution and source.
pub const LEADS: (&str, &str) = ("lead-router", "form");
pub const ORDERS: (&str, &str) = ("order-totals", "orders");

/// Deploys both and points them at the receiver.
pub async fn deploy(
    node: &NodeClient,
    receiver: SocketAddr,
    output: Output,
) -> Result<(), Failure> {
    for Example { manifest, component } in &EXAMPLES {
        let deployed = deploy::deploy(node, manifest, component).await?;
        output.note(format_args!(
            "deployed {} {}, ready in {} ms",
            deployed.name, deployed.version, deployed.ready_ms
        ));
    }
    let crm_url = Call::put(["settings", LEADS.0, "crm_url"]);
    node.call(crm_url.json(&format!("http://{receiver}"))).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_components_and_have_the_sources_that_the_demo_sends_to() {
        for Example { component, .. } in &EXAMPLES {
            // `\0asm`, then a component's version and layer.
            assert_eq!(component[..8], [0, b'a', b's', b'm', 0x0d, 0, 1, 0]);
        }
        for (solution, source) in [LEADS, ORDERS] {
            let manifests = EXAMPLES.iter().map(|example| example.manifest);
            let mut tables = manifests.map(|text| toml::from_str::<toml::Table>(text).unwrap());
            let manifest = tables.find(|table| table["name"].as_str() == Some(solution)).unwrap();
            let sources = manifest["source"].as_array().unwrap();
            assert!(
                sources.iter().any(|table| table["name"].as_str() == Some(source)
                    && table["kind"].as_str() == Some("webhook")),
                "{solution} has a web hook {source}"
            );
        }
    }
}
