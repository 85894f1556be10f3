//! `cargo xtask bench`: our paths beside the raw clients, on the servers that `it` uses.

use std::path::absolute;

use crate::it::{TRANSPORTS, servers_for};
use crate::{Result, exec, in_ci, root, take_flag, take_value};

/// Where the figures stand for readers.
const DOCUMENT: &str = "docs/performance.md";

/// The verb. What it does not know goes to the bench program.
pub(crate) fn run(mut args: Vec<String>) -> Result<()> {
    let install = take_flag(&mut args, "--install") || in_ci();
    let mut files = Vec::new();
    for option in ["--json", "--baseline"] {
        // cargo runs in the root, the caller may not be there.
        if let Some(file) = take_value(&mut args, option)? {
            files.push((option, absolute(file)?));
        }
    }
    if take_flag(&mut args, "--write") {
        files.push(("--write", root().join(DOCUMENT)));
    }
    let named = |t: &&&str| args.iter().any(|a| a == **t);
    let mut wanted: Vec<&str> = TRANSPORTS.iter().filter(named).copied().collect();
    if wanted.is_empty() {
        wanted = TRANSPORTS.to_vec();
    }
    // A quick run shows that it works and not how fast: what the tests have built will do.
    let profile = match args.iter().any(|a| a == "--quick") {
        true => "dev",
        false => "bench",
    };
    let servers = servers_for(&wanted, install)?;
    let mut bench = exec::cargo();
    bench.args([
        "run",
        "--profile",
        profile,
        "--package",
        "interline-bench",
        "--",
    ]);
    bench.args(&args);
    for (option, file) in files {
        bench.arg(option).arg(file);
    }
    servers.show(&wanted, &mut bench);
    exec::run(&mut bench)
}
