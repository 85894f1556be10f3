//! `cargo xtask services`: real servers, started by the first of three ways that is there:
//! an endpoint in the environment, a Docker engine, native processes.

mod compose;
mod kafka;
mod native;
mod ports;
mod probe;
mod state;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use kafka::Kafka;
use state::State;

use crate::{Result, in_ci, take_flag, take_value};

/// The state file of the servers that this process started and must stop.
static OWNED: Mutex<Option<PathBuf>> = Mutex::new(None);

fn owned() -> MutexGuard<'static, Option<PathBuf>> {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The verb.
pub(crate) fn run(mut args: Vec<String>) -> Result<()> {
    let install = take_flag(&mut args, "--install") || in_ci();
    let file = take_value(&mut args, "--state")?.map_or_else(State::shared_file, PathBuf::from);
    let words: Vec<_> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["up"] | ["up", "kafka"] => up(&file, install),
        ["down"] | ["down", "kafka"] => down(&file),
        ["status"] => status(&file),
        ["env"] => env(&file),
        ["kill", "kafka"] => running(&file)?.kill(),
        ["start", "kafka"] => start(&file),
        ["restart", "kafka"] => running(&file)?.kill().and_then(|()| start(&file)),
        _ => Err(format!("cannot do `services {}`", args.join(" ")).into()),
    }
}

fn up(file: &Path, install: bool) -> Result<()> {
    if kafka::given()?.is_some() {
        return Ok(());
    }
    if let Ok(kafka) = running(file) {
        if kafka.alive() {
            return status(file);
        }
        kafka.stop();
    }
    // Owned until it is ready, so that an interrupt or an error leaves nothing behind.
    let servers = Servers::start(file, None, install)?;
    servers.leave_running();
    println!(
        "\neval \"$(cargo xtask services env)\" gives a shell its addresses; `cargo xtask services down` stops it"
    );
    Ok(())
}

fn down(file: &Path) -> Result<()> {
    sweep();
    if file.exists() {
        stop(file);
        println!("kafka  stopped");
    } else {
        println!("kafka  not running");
    }
    Ok(())
}

fn status(file: &Path) -> Result<()> {
    match running(file) {
        Ok(kafka) => println!("kafka  {}", kafka.describe()),
        Err(_) => println!("kafka  not running"),
    }
    Ok(())
}

fn env(file: &Path) -> Result<()> {
    for (name, value) in running(file)?.env(file)? {
        println!("export {name}='{value}'");
    }
    Ok(())
}

fn start(file: &Path) -> Result<()> {
    running(file)?.start(file)
}

fn running(file: &Path) -> Result<Kafka> {
    let missing = || {
        format!(
            "no kafka is recorded in {}: run `cargo xtask services up`",
            file.display()
        )
    };
    State::load(file)?.kafka.ok_or_else(|| missing().into())
}

/// Stops what `file` records and forgets it.
fn stop(file: &Path) {
    let recorded = State::load(file);
    // Forgotten first: a `start` that is under way then sees it, and ends what it started.
    State::remove(file);
    if let Ok(State {
        kafka: Some(kafka), ..
    }) = recorded
    {
        kafka.stop();
    }
}

/// Stops servers whose owner ended without stopping them (killed, or the machine was out of memory).
fn sweep() {
    for (file, state) in State::of_runs() {
        if state.owner_is_gone() {
            stop(&file);
        }
    }
}

/// Servers for one run of this process. They stop when it is dropped, also by a panic or an interrupt.
#[derive(Debug)]
pub(crate) struct Servers {
    env: Vec<(String, String)>,
}

impl Servers {
    /// Brings up Kafka, or takes the one that the environment names.
    pub(crate) fn kafka(install: bool) -> Result<Self> {
        sweep();
        if let Some(env) = kafka::given()? {
            return Ok(Self { env });
        }
        Self::start(&State::run_file(), Some(std::process::id()), install)
    }

    /// Starts Kafka and records it in `file`. What an error or an interrupt leaves is stopped.
    fn start(file: &Path, owner: Option<u32>, install: bool) -> Result<Self> {
        *owned() = Some(file.to_owned());
        // From here on the drop of `servers` stops whatever had been started.
        let mut servers = Self { env: Vec::new() };
        State::create(file, owner)?;
        let kafka = Kafka::start_new(file, install)?;
        println!("kafka  {}", kafka.describe());
        servers.env = kafka.env(file)?;
        Ok(servers)
    }

    /// For `services up`: they outlive this process.
    fn leave_running(self) {
        *owned() = None;
    }

    /// What child processes need to find them.
    pub(crate) fn env(&self) -> &[(String, String)] {
        &self.env
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        stop_owned();
    }
}

/// Stops what this process started, if anything. Whatever it was about to start then fails to be recorded.
pub(crate) fn stop_owned() {
    if let Some(file) = owned().take() {
        stop(&file);
    }
}

/// The standard library offers no other randomness than the seed of its hash maps.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}
