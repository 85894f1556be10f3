//! `cargo xtask services`: real servers, started by the first of three ways that is there:
//! an endpoint in the environment, a Docker engine, native processes.

mod cache;
mod compose;
pub(crate) mod kafka;
mod kind;
mod native;
mod nats;
mod ports;
mod postgres;
mod probe;
mod record;
mod redis;
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kind::{KINDS, Kind};
use server::Server;

use crate::tools::Tool;
use crate::{Result, in_ci, take_flag, take_value, tools};

/// The records of the servers that this process started and must stop.
static OWNED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn owned() -> MutexGuard<'static, Vec<PathBuf>> {
    OWNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The verb.
pub(crate) fn run(mut args: Vec<String>) -> Result<()> {
    let install = take_flag(&mut args, "--install") || in_ci();
    // The servers keep their files below it and run in folders of their own.
    let folder = match take_value(&mut args, "--state")? {
        Some(folder) => std::path::absolute(folder)?,
        None => record::shared_folder(),
    };
    let mut words = args.iter().map(String::as_str);
    let verb = words.next().unwrap_or_default();
    let kinds = kinds(&words.collect::<Vec<_>>())?;
    match (verb, &kinds[..]) {
        ("up", _) => up(&folder, &kinds, install),
        ("down", _) => down(&folder, &kinds),
        ("status", _) => status(&folder, &kinds),
        ("env", _) => env(&folder, &kinds),
        ("kill", [kind]) => recorded(&folder, kind)?.1.kill(),
        ("start", [kind]) => start(&folder, kind),
        ("restart", [kind]) => recorded(&folder, kind)?
            .1
            .kill()
            .and_then(|()| start(&folder, kind)),
        _ => Err(format!("cannot do `services {}`", args.join(" ")).into()),
    }
}

/// Those of the given names; all of them if there are none.
fn kinds(names: &[&str]) -> Result<Vec<&'static Kind>> {
    if names.is_empty() {
        return Ok(KINDS.into());
    }
    let known = KINDS.map(|kind| kind.name).join(", ");
    let find = |name: &&str| {
        Kind::named(name).ok_or_else(|| format!("unknown server {name}: know {known}").into())
    };
    names.iter().map(find).collect()
}

fn up(folder: &Path, kinds: &[&'static Kind], install: bool) -> Result<()> {
    // Owned until all are ready, so that an interrupt or an error leaves nothing behind.
    let mut servers = Servers::default();
    for kind in kinds {
        let file = record::file(folder, kind.name);
        match record::load(&file)? {
            Some(server) if server.alive() => println!("{}", server.describe()),
            // Killed on purpose, or by the last shutdown of the machine.
            Some(server) => {
                server.stop();
                servers.add(kind, &file, None, install)?;
            }
            None => servers.add(kind, &file, None, install)?,
        }
    }
    servers.leave_running();
    println!(
        "\neval \"$(cargo xtask services env)\" gives a shell its addresses; `cargo xtask services down` stops it"
    );
    Ok(())
}

fn down(folder: &Path, kinds: &[&'static Kind]) -> Result<()> {
    sweep();
    let mut lines = String::new();
    for kind in kinds {
        let file = record::file(folder, kind.name);
        let was = if file.exists() {
            "stopped"
        } else {
            "not running"
        };
        stop(&file);
        lines += &format!("{:<9} {was}\n", kind.name);
    }
    // At the end: a closed pipe must not leave one running.
    print!("{lines}");
    Ok(())
}

fn status(folder: &Path, kinds: &[&'static Kind]) -> Result<()> {
    for kind in kinds {
        match record::load(&record::file(folder, kind.name))? {
            Some(server) => println!("{}", server.describe()),
            None => println!("{:<9} not running", kind.name),
        }
    }
    Ok(())
}

fn env(folder: &Path, kinds: &[&'static Kind]) -> Result<()> {
    for kind in kinds {
        let file = record::file(folder, kind.name);
        for (name, value) in
            record::load(&file)?.map_or(Ok(Vec::new()), |server| server.env(&file))?
        {
            println!("export {name}='{value}'");
        }
    }
    Ok(())
}

fn start(folder: &Path, kind: &Kind) -> Result<()> {
    let (file, server) = recorded(folder, kind)?;
    server.start(&file)
}

fn recorded(folder: &Path, kind: &Kind) -> Result<(PathBuf, Server)> {
    let file = record::file(folder, kind.name);
    match record::load(&file)? {
        Some(server) => Ok((file, server)),
        None => {
            let (name, file) = (kind.name, file.display());
            Err(format!("there is no {file}: run `cargo xtask services up {name}`").into())
        }
    }
}

/// Stops what `file` records and forgets it.
fn stop(file: &Path) {
    let recorded = record::load(file);
    // Forgotten first: a `start` that is under way then sees it, and ends what it started.
    record::remove(file);
    match recorded {
        Ok(Some(server)) => server.stop(),
        Ok(None) => {}
        Err(e) => eprintln!("{e}"),
    }
}

/// Stops servers whose owner ended without stopping them (killed, or the machine was out of memory).
fn sweep() {
    for (file, server) in record::of_runs() {
        if server.owner_is_gone() {
            stop(&file);
        }
    }
}

/// The server that the environment names is used as it is; why it cannot be reached is an error.
fn is_given(kind: &Kind) -> Result<bool> {
    let name = kind.variable("URL");
    let Ok(url) = std::env::var(&name) else {
        return Ok(false);
    };
    let address =
        first_address(&url).ok_or_else(|| format!("{name} is not {}://HOST:PORT", kind.name))?;
    // The answer to a plaintext request is only to be had from a plaintext listener.
    let reached = if url.contains(['@', '?']) {
        probe::connect(address).map(|_| true)
    } else {
        (kind.is_ready)(address)
    };
    match reached {
        Ok(true) => {
            println!("{:<9} {address}, as {name} says", kind.name);
            Ok(true)
        }
        answer => Err(format!(
            "no {} at {address}, which {name} names: {answer:?}",
            kind.name
        )
        .into()),
    }
}

/// HOST:PORT of `scheme://[user[:password]@]HOST:PORT[,..][/..][?..]`.
fn first_address(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let hosts = authority.rsplit('@').next()?;
    hosts.split(',').next().filter(|h| h.contains(':'))
}

/// Servers for one run of this process. They stop when it is dropped, also by a panic or an interrupt.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    env: BTreeMap<&'static str, Vec<(String, String)>>,
}

impl Servers {
    /// Brings up those of the given names, or takes what the environment names. A name of no server needs none.
    pub(crate) fn for_run(names: &[&str], install: bool) -> Result<Self> {
        sweep();
        let mut servers = Self::default();
        for kind in names.iter().filter_map(|name| Kind::named(name)) {
            if !servers.env.contains_key(kind.name) && !is_given(kind)? {
                let file = record::file(&record::own_folder(), kind.name);
                servers.add(kind, &file, Some(std::process::id()), install)?;
            }
        }
        Ok(servers)
    }

    /// Starts one and records it in `file`. What an error or an interrupt leaves is stopped.
    fn add(
        &mut self,
        kind: &'static Kind,
        file: &Path,
        owner: Option<u32>,
        install: bool,
    ) -> Result<()> {
        owned().push(file.to_owned());
        let server = Server::start_new(kind, file, owner, install)?;
        println!("{}", server.describe());
        self.env.insert(kind.name, server.env(file)?);
        Ok(())
    }

    /// For `services up`: they outlive this process.
    fn leave_running(self) {
        owned().clear();
    }

    /// What child processes need to find the server of that name; nothing if there is none, or the environment says
    /// it already.
    pub(crate) fn env(&self, name: &str) -> impl Iterator<Item = (&str, &str)> {
        let env = self.env.get(name).into_iter().flatten();
        env.map(|(name, value)| (&**name, &**value))
    }

    /// What `INTERLINE_NAME_WORD` says of the server of that name, started or given.
    pub(crate) fn url(&self, name: &str, word: &str) -> Result<String> {
        let variable = variable(name, word);
        let mut started = self.env(name);
        let started = started.find(|(known, _)| *known == variable);
        started
            .map(|(_, url)| url.to_owned())
            .or_else(|| std::env::var(&variable).ok())
            .ok_or_else(|| format!("{variable} is not set").into())
    }

    /// What `names` need to know, of this process's own environment and of what was started; and nothing of others.
    pub(crate) fn show(&self, names: &[&str], command: &mut std::process::Command) {
        for kind in KINDS.iter().filter(|kind| !names.contains(&kind.name)) {
            let theirs = kind.variable("");
            let inherited = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
            for name in inherited.filter(|name| name.starts_with(&theirs)) {
                command.env_remove(name);
            }
        }
        for name in names {
            command.envs(self.env(name));
        }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        stop_owned();
    }
}

/// Stops what this process started, if anything. Whatever it was about to start then fails to be recorded.
pub(crate) fn stop_owned() {
    for file in owned().drain(..) {
        stop(&file);
    }
}

/// The names of what must be installed to start the servers of those names without a Docker engine.
pub(crate) fn missing_tools(names: &[&str]) -> Vec<&'static str> {
    let kinds = names.iter().filter_map(|name| Kind::named(name));
    let tools: Vec<Tool> = kinds.flat_map(|kind| kind.native.tools).copied().collect();
    tools::missing(&tools)
}

/// `INTERLINE_NAME_WORD`: how the environment names what belongs to a server.
pub(crate) fn variable(name: &str, word: &str) -> String {
    format!("INTERLINE_{}_{word}", name.to_uppercase())
}

/// The standard library offers no other randomness than the seed of its hash maps.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::first_address;

    #[test]
    fn the_address_of_a_url() {
        assert_eq!(
            first_address("kafka://127.0.0.1:9092"),
            Some("127.0.0.1:9092")
        );
        assert_eq!(first_address("kafka://u:p@a:1,b:2?sasl=plain"), Some("a:1"));
        assert_eq!(first_address("postgres://a:1/x"), Some("a:1"));
        assert_eq!(first_address("a:1"), None);
        assert_eq!(first_address("kafka://a"), None);
    }
}
