//! `cargo xtask bench`: our paths beside the raw clients, on the servers that `it` uses.

use crate::it::{TRANSPORTS, servers_for};
use crate::{Result, exec, in_ci, take_flag, take_value};

/// The verb. Everything but `--install` goes to the bench program.
pub(crate) fn run(mut args: Vec<String>) -> Result<()> {
    let install = take_flag(&mut args, "--install") || in_ci();
    let json = take_value(&mut args, "--json")?;
    let named = |t: &&&str| args.iter().any(|a| a == **t);
    let mut wanted: Vec<&str> = TRANSPORTS.iter().filter(named).copied().collect();
    if wanted.is_empty() {
        wanted = TRANSPORTS.to_vec();
    }
    let servers = servers_for(&wanted, install)?;
    let mut bench = exec::cargo();
    bench
        .args([
            "run",
            "--profile",
            "bench",
            "--package",
            "interline-bench",
            "--",
        ])
        .args(&args);
    if let Some(file) = json {
        // cargo runs in the root, the caller may not be there.
        bench.arg("--json").arg(std::path::absolute(file)?);
    }
    servers.show(&wanted, &mut bench);
    exec::run(&mut bench)
}
