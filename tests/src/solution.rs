//! Solutions to deploy: a manifest as text and a component as bytes, each of which a test may bend.

use std::{fs, path::Path};

/// The real solutions of this workspace, built by this package's build script, and what a test makes of them.
#[derive(Debug, Clone)]
pub struct Solution {
    pub manifest: String,
    pub component: Vec<u8>,
}

macro_rules! solution {
    ($manifest:literal, $component:literal) => {
        Self::new(include_str!($manifest), &read(env!($component)))
    };
}

impl Solution {
    pub fn new(manifest: &str, component: &[u8]) -> Self {
        Self { manifest: manifest.to_owned(), component: component.to_owned() }
    }

    /// Does what each message asks, good or bad.
    pub fn probe() -> Self {
        solution!("../fixtures/probe/solution.toml", "TANDEM_COMPONENT_PROBE")
    }

    /// Counts under the key `n`, and makes one request if the setting `sink` has a URL.
    pub fn lean() -> Self {
        solution!("../fixtures/lean/solution.toml", "TANDEM_COMPONENT_LEAN")
    }

    pub fn lead_router() -> Self {
        solution!("../../example-plugins/lead-router/solution.toml", "TANDEM_COMPONENT_LEAD_ROUTER")
    }

    pub fn order_totals() -> Self {
        solution!(
            "../../example-plugins/order-totals/solution.toml",
            "TANDEM_COMPONENT_ORDER_TOTALS"
        )
    }

    pub fn uptime_watch() -> Self {
        solution!(
            "../../example-plugins/uptime-watch/solution.toml",
            "TANDEM_COMPONENT_UPTIME_WATCH"
        )
    }

    pub fn alerts() -> Self {
        solution!("../../example-plugins/alerts/solution.toml", "TANDEM_COMPONENT_ALERTS")
    }

    /// The same under another name.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        let line = self.manifest.lines().find(|line| line.starts_with("name = "));
        let line = line.expect("a manifest has a name").to_owned();
        self.replace(&line, &format!("name = \"{name}\""))
    }

    /// With more lines at the end of its manifest.
    #[must_use]
    pub fn with(mut self, lines: &str) -> Self {
        self.manifest = format!("{}\n{lines}\n", self.manifest.trim_end());
        self
    }

    /// With a text in its manifest replaced, which has to be there.
    #[must_use]
    #[track_caller]
    pub fn replace(mut self, from: &str, to: &str) -> Self {
        assert!(self.manifest.contains(from), "`{from}` is not in\n{}", self.manifest);
        self.manifest = self.manifest.replacen(from, to, 1);
        self
    }

    #[must_use]
    pub fn component(mut self, component: impl Into<Vec<u8>>) -> Self {
        self.component = component.into();
        self
    }

    /// The line number of a text in its manifest, from 1.
    #[track_caller]
    pub fn line_of(&self, text: &str) -> usize {
        let line = self.manifest.lines().position(|line| line.contains(text));
        line.unwrap_or_else(|| panic!("`{text}` is not in\n{}", self.manifest)) + 1
    }

    /// Writes both files into a folder, for commands that take one.
    pub fn write_to(&self, folder: &Path) {
        let mut lines: Vec<_> = self.manifest.lines().collect();
        if let Some(line) = lines.iter_mut().find(|line| line.starts_with("component = ")) {
            *line = "component = \"component.wasm\"";
        }
        let manifest = lines.join("\n") + "\n";
        fs::write(folder.join("solution.toml"), manifest).expect("a test's folder can be written");
        fs::write(folder.join("component.wasm"), &self.component).expect("as above");
    }
}

fn read(path: &str) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}; the build script makes it"))
}
