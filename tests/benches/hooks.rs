//! Web hooks, accepted durably and handled, beside a bare hyper server that keeps nothing.
//!
//! `cargo bench -p tandem-tests --bench hooks [-- --seconds N --rounds N --connections 1,64,512]`
//!
//! Both run as processes of their own on loopback; the same load generator sends the same 1 KiB body in alternating
//! rounds. Handling is fixture `lean`: state get and set, and one effect or none. Figures are medians over the rounds.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench prints, waits for processes, and counts far below these bounds"
)]

use std::{
    env,
    error::Error,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

#[path = "hooks/bare.rs"]
mod bare;
#[path = "hooks/load.rs"]
mod load;
#[path = "hooks/node.rs"]
mod node;

use load::Figures;

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Plan {
    seconds: u64,
    rounds: usize,
    connections: Vec<usize>,
}

fn main() -> Outcome<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [flag, address] = args.as_slice()
        && flag == "--serve-bare"
    {
        return bare::serve(address.parse()?);
    }
    let plan = plan(&args)?;
    println!("connections  server              per second      p50 ms      p99 ms   of bare");
    for &connections in &plan.connections {
        let (mut bare, mut plain, mut effect) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            bare.push(measure_bare(&plan, connections)?);
            plain.push(measure_node(&plan, connections, Effect::None)?);
            effect.push(measure_node(&plan, connections, Effect::Delivered)?);
        }
        let bare = print(connections, "bare hyper", bare, None);
        print(connections, "tandem", plain, Some(bare));
        print(connections, "tandem, one effect", effect, Some(bare));
    }
    Ok(())
}

fn plan(args: &[String]) -> Outcome<Plan> {
    let mut plan = Plan { seconds: 5, rounds: 3, connections: vec![1, 64, 512] };
    let mut args = args.iter().filter(|arg| *arg != "--bench");
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--seconds" => plan.seconds = value.parse()?,
            "--rounds" => plan.rounds = value.parse()?,
            "--connections" => {
                plan.connections = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            other => return Err(format!("{other} is not known").into()),
        }
    }
    Ok(plan)
}

/// What handling asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    /// One HTTP request to a bare hyper server.
    Delivered,
}

fn measure_bare(plan: &Plan, connections: usize) -> Outcome<Figures> {
    let (_server, address) = spawn_bare()?;
    load::run(address, "/hooks/lean/in", connections, Duration::from_secs(plan.seconds))
}

fn measure_node(plan: &Plan, connections: usize, effect: Effect) -> Outcome<Figures> {
    let (_sink, sink) = spawn_bare()?;
    let node = node::Node::start()?;
    if effect == Effect::Delivered {
        node.set("sink", &format!("\"http://{sink}/\""))?;
    }
    let began = Instant::now();
    let mut figures =
        load::run(node.address, "/hooks/lean/in", connections, Duration::from_secs(plan.seconds))?;
    // What was accepted counts only when it is handled and delivered.
    node.wait_until_idle(effect == Effect::Delivered)?;
    let all = began.elapsed().as_secs_f64();
    figures.per_second = figures.count as f64 / all;
    Ok(figures)
}

/// The processes die with it.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn spawn_bare() -> Outcome<(Process, SocketAddr)> {
    let address = free_address()?;
    let mut command = Command::new(env::current_exe()?);
    command.args(["--serve-bare", &address.to_string()]).stdin(Stdio::null());
    let process = Process(command.spawn()?);
    wait_for(address)?;
    Ok((process, address))
}

fn free_address() -> Outcome<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn wait_for(address: SocketAddr) -> Outcome<()> {
    let until = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(address).is_err() {
        if Instant::now() > until {
            return Err(format!("nothing listens on {address}").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn print(connections: usize, server: &str, mut rounds: Vec<Figures>, bare: Option<f64>) -> f64 {
    rounds.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    let Figures { per_second, p50, p99, .. } = rounds[rounds.len() / 2];
    let ratio = bare.map_or_else(String::new, |bare| format!("{:.2}", per_second / bare));
    println!(
        "{connections:>11}  {server:<18} {per_second:>11.0} {:>11.2} {:>11.2} {ratio:>9}",
        p50.as_secs_f64() * 1000.0,
        p99.as_secs_f64() * 1000.0,
    );
    per_second
}

/// The workspace's folder, where fixtures are.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member of the workspace").to_owned()
}
