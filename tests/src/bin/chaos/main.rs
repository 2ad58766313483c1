//! Chaos: a pair and its witness as real processes on machines of their own, senders and receivers outside, faults from a
//! seed, and a check of all that was promised.
//!
//! It reads in this order: [`hosts`] and [`switch`] (machines and the wire between them), [`disk`], [`cluster`] (the pair),
//! [`senders`], [`faults`], [`run`], [`upgrade`], [`stored`], [`checker`], [`report`]. `docs/testing.md` says how to use it.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program that talks, waits for processes and gives senders a pace"
)]

mod arguments;
mod checker;
mod cluster;
mod disk;
mod faults;
mod guard;
mod history;
mod hosts;
mod report;
mod run;
mod senders;
mod stored;
mod switch;
mod upgrade;

use std::{
    env,
    error::Error,
    ffi::OsStr,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arguments::Arguments;
use checker::Figures;
use clap::Parser;
use cluster::{Cluster, Plan};
use faults::{Dice, Fault};
use guard::Guard;
use history::{Apart, History};
use report::Report;
use tandem_tests::Program;
use upgrade::Programs;

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// As the `tandem` command has it, which this program is too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Under this name it is the `tandem` command.
const TANDEM: &str = "tandem";

fn main() -> ExitCode {
    let name = env::args_os().next().unwrap_or_default();
    if Path::new(&name).file_name() == Some(OsStr::new(TANDEM)) {
        return tandem::cli::main();
    }
    let arguments = Arguments::parse();
    if arguments.list {
        for fault in faults::ALL {
            println!("{:<18} {}", fault.name, fault.what);
        }
        return ExitCode::SUCCESS;
    }
    match chaos(&arguments) {
        Ok(holds) if holds => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("chaos: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all holds; also if this machine does not allow it, which is said.
fn chaos(arguments: &Arguments) -> Outcome<bool> {
    if let Err(why) = hosts::Host::new(hosts::At::Witness) {
        println!("NOT TESTED: chaos, because machines cannot be made here: {why}");
        return Ok(true);
    }
    if let Some(from) = arguments.from.as_ref().filter(|from| !upgrade::is_there(from)) {
        println!("NOT TESTED: upgrades, because there is no program or revision `{from}` here");
        return Ok(true);
    }
    let faults = arguments.faults()?;
    let folder = env::temp_dir().join(format!("tandem-chaos-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let mut guard = Guard::of(&folder)?;
    tempfile::env::override_temp_dir(&folder).ok();
    let history = Arc::new(History::new(&folder, Apart::under(arguments.no_witness.as_deref()))?);
    history.tell(&format!("seed {}, folder {}", arguments.seed(), folder.display()));
    let report = catch_unwind(AssertUnwindSafe(|| perform(arguments, &faults, &folder, &history)));
    let report = match report {
        Ok(Ok(report)) => report,
        Ok(Err(why)) => {
            history.violation(format!("it went no further: {why}"));
            Report::new(&history, arguments.seed(), Figures::default(), Vec::new())
        }
        Err(_) => {
            history.violation("it went no further: a panic, above".into());
            Report::new(&history, arguments.seed(), Figures::default(), Vec::new())
        }
    };
    report.lines().iter().for_each(|line| eprintln!("{line}"));
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    if !report.holds {
        eprintln!("the log of this run and of each node: {}", folder.display());
        guard.keep();
    }
    Ok(report.holds)
}

fn perform(
    arguments: &Arguments,
    faults: &[&'static Fault],
    folder: &Path,
    history: &Arc<History>,
) -> Outcome<Report> {
    let this = program(&this_program(folder)?);
    let other = arguments.from.as_ref().map(|from| upgrade::program(from, folder)).transpose()?;
    let other = other.map(|other| program(&other));
    let plan = Plan {
        program: other.unwrap_or(this),
        seed: arguments.seed(),
        profile: arguments.profile.clone(),
        without_witness: arguments.no_witness.clone(),
    };
    let mut cluster = Cluster::start(&plan, history)?;
    let mut dice = Dice::new(arguments.seed());
    let senders = run::senders(&cluster);
    let time = Duration::from_secs_f64(arguments.minutes * 60.0);
    let (possible, missing): (Vec<_>, Vec<_>) =
        faults.iter().partition(|fault| fault.is_missing(&cluster).is_none());
    let why = |fault: &Fault| {
        fault.is_missing(&cluster).map(|why| format!("{}, because {why}", fault.name))
    };
    let not_tested = missing.into_iter().filter_map(why).collect();
    let done = if let Some(other) = other {
        upgrade::rounds(&mut cluster, &mut dice, Programs { other, this }, time)
    } else {
        run::faults(&mut cluster, &mut dice, &possible, time)
    };
    let figures = done.and_then(|()| run::finish(&mut cluster, &dice, senders));
    let figures = figures.unwrap_or_else(|why| {
        history.violation(why.to_string());
        Figures::default()
    });
    let report = Report::new(history, arguments.seed(), figures, not_tested);
    if !report.holds {
        cluster.keep_folders(folder);
    }
    Ok(report)
}

/// This program under its other name, and as it is now, should somebody build it anew meanwhile.
fn this_program(folder: &Path) -> Outcome<PathBuf> {
    let (own, link) = (env::current_exe()?, folder.join(TANDEM));
    // In another file system it is a copy.
    fs::hard_link(&own, &link).or_else(|_| fs::copy(&own, &link).map(drop))?;
    Ok(link)
}

/// Programs are handed on as constants, as those of tests are.
fn program(path: &Path) -> Program {
    Program(Box::leak(path.display().to_string().into_boxed_str()))
}

/// Who failed while it held the lock has said so itself.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
