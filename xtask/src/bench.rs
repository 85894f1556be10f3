//! `cargo xtask bench`: our paths beside the raw clients, on the servers that `it` uses.

use std::path::absolute;
use std::process::Command;

use crate::it::{TRANSPORTS, servers_for};
use crate::services::Servers;
use crate::{Result, exec, in_ci, root, take_flag, take_value};

/// Where the figures stand for readers.
const DOCUMENT: &str = "docs/performance.md";

const QUICK: &str = "--quick";
const ALLOCATIONS: &str = "--allocations";

/// The verb. What it does not know goes to the bench program.
pub(crate) fn run(mut args: Vec<String>) -> Result<()> {
    let install = take_flag(&mut args, "--install") || in_ci();
    let mut files = Vec::new();
    for option in ["--json", "--baseline", "--html"] {
        // cargo runs in the root, the caller may not be there.
        if let Some(file) = take_value(&mut args, option)? {
            files.push((option, absolute(file)?));
        }
    }
    if take_flag(&mut args, "--write") {
        files.push(("--write", root().join(DOCUMENT)));
    }
    let features = take_flag(&mut args, ALLOCATIONS).then_some("allocations");
    let bench = Bench::prepare(&args, features, install)?;
    let mut command = bench.command(&args);
    for (option, file) in files {
        command.arg(option).arg(file);
    }
    exec::run(&mut command)
}

/// Whether every row still produces figures, however large. What it prints is shown only if it
/// fails.
pub(crate) fn quick(install: bool) -> Result<()> {
    let all = [
        vec![QUICK.to_owned()],
        vec!["scale".to_owned(), QUICK.to_owned()],
    ];
    let bench = Bench::prepare(&all[0], None, install)?;
    all.iter()
        .try_for_each(|args| exec::output(&mut bench.command(args)).map(drop))
}

/// The bench program, with the servers that it needs while it runs.
struct Bench {
    profile: &'static str,
    features: Option<&'static str>,
    wanted: Vec<&'static str>,
    servers: Servers,
}

impl Bench {
    fn prepare(args: &[String], features: Option<&'static str>, install: bool) -> Result<Self> {
        let named = |t: &&&str| args.iter().any(|a| a == **t);
        let mut wanted: Vec<&str> = TRANSPORTS.iter().filter(named).copied().collect();
        if wanted.is_empty() {
            wanted = TRANSPORTS.to_vec();
        }
        // A quick run shows that it works and not how fast: a build without optimisation will do.
        // What is allocated does not depend on optimisation beyond crates.
        let profile = match (args.iter().any(|a| a == QUICK), features) {
            (true, _) => "dev",
            (false, Some(_)) => "release",
            (false, None) => "bench",
        };
        Ok(Self {
            profile,
            features,
            servers: servers_for(&wanted, install)?,
            wanted,
        })
    }

    fn command(&self, args: &[String]) -> Command {
        let mut command = exec::cargo();
        let run = [
            "run",
            "--profile",
            self.profile,
            "--package",
            "interline-bench",
        ];
        command.args(run);
        if let Some(features) = self.features {
            command.args(["--features", features]);
        }
        command.arg("--").args(args);
        self.servers.show(&self.wanted, &mut command);
        command
    }
}
