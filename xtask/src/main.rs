//! The project's own commands, run as `cargo xtask VERB`. One file per verb.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool"
)]

mod bench;
mod ci;
mod exec;
mod it;
mod services;
mod tidy;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask VERB

  it [TRANSPORT..] [--install]       all tests and examples that need a server; a table at the end
  it --planted                       prove that the suite finds each bug planted for it
  ci [--install]                     everything that must hold before a change is taken
  bench [TRANSPORT..] [--quick] [--json FILE] [--baseline FILE] [--write] [--allocations]
                                     our paths beside the raw clients; --write puts the figures into docs/performance.md
  tidy                               size, arrows, dependencies, documents, forbidden words
  services up [NAME..] [--install]   start real servers and leave them running: kafka, redis, nats, postgres
  services status|env|down [NAME..]  look at them, print their environment, stop them
  services kill|start|restart NAME   break one on purpose (SIGKILL) and bring it back
";

pub(crate) type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.is_empty() {
        print!("{USAGE}");
        return ExitCode::from(2);
    }
    let verb = args.remove(0);
    if let Err(e) = exec::stop_on_interrupt() {
        eprintln!("xtask: {e}");
        return ExitCode::FAILURE;
    }
    match run(&verb, args) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("xtask {verb}: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: &str, args: Vec<String>) -> Result<ExitCode> {
    match verb {
        "ci" => return ci::run(args),
        "bench" => bench::run(args),
        "it" => it::run(args),
        "services" => services::run(args),
        "tidy" => tidy::run(),
        _ => Err(format!("unknown verb\n\n{USAGE}").into()),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The workspace root, found from this crate's own place in it.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Removes `flag` from `args` and says whether it was there.
pub(crate) fn take_flag(args: &mut Vec<String>, flag: &str) -> bool {
    let before = args.len();
    args.retain(|a| a != flag);
    args.len() != before
}

/// Removes `option` with its value from `args`.
pub(crate) fn take_value(args: &mut Vec<String>, option: &str) -> Result<Option<String>> {
    let Some(at) = args.iter().position(|a| a == option) else {
        return Ok(None);
    };
    if at + 1 == args.len() {
        return Err(format!("{option} needs a value").into());
    }
    args.remove(at);
    Ok(Some(args.remove(at)))
}

/// True where nobody is there to answer: what is missing is then installed.
pub(crate) fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|v| v == "true" || v == "1")
}
