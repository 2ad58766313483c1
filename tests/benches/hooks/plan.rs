//! What to measure, from the command line.

use crate::Outcome;

pub struct Plan {
    /// Of each round.
    pub seconds: u64,
    pub rounds: usize,
    pub connections: Vec<usize>,
    /// Parts of names; none for all.
    only: Vec<String>,
    /// System packages that are not there.
    pub install: bool,
}

impl Plan {
    pub fn from(args: &[String]) -> Outcome<Self> {
        let mut plan = Self {
            seconds: 5,
            rounds: 3,
            connections: vec![1, 64, 512],
            only: Vec::new(),
            install: false,
        };
        // Cargo adds the first.
        let mut args = args.iter().filter(|arg| *arg != "--bench");
        while let Some(flag) = args.next() {
            if flag == "--install" {
                plan.install = true;
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--seconds" => plan.seconds = value.parse()?,
                "--rounds" => plan.rounds = value.parse()?,
                "--connections" => {
                    plan.connections =
                        value.split(',').map(str::parse).collect::<Result<_, _>>()?;
                }
                "--only" => plan.only = value.split(',').map(str::to_lowercase).collect(),
                other => return Err(format!("{other} is not known").into()),
            }
        }
        Ok(plan)
    }

    pub fn wants(&self, name: &str) -> bool {
        let name = name.to_lowercase();
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part))
    }
}
