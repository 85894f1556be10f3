#![doc = include_str!("../README.md")]

mod args;
mod commands;
mod demo;
mod interrupt;
mod lines;
mod output;
mod place;
mod progress;
mod redact;
mod stop;
mod table;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};
use crate::interrupt::Interrupt;
use crate::stop::{Exit, Stop};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return stop::refuse_arguments(&error),
    };
    if cli.verbose {
        tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_target(false)
            .init();
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return Stop::failed(format!("no runtime: {error}")).report(),
    };
    let ended = runtime.block_on(async {
        let interrupt = Interrupt::listen();
        run(cli, &interrupt).await
    });
    // What still blocks on a terminal or a pipe must not keep the process.
    runtime.shutdown_background();
    match ended {
        Ok(exit) => exit.into(),
        Err(stop) => stop.report(),
    }
}

async fn run(cli: Cli, interrupt: &Interrupt) -> Result<Exit, Stop> {
    let json = cli.json;
    match cli.command {
        Command::Bridge(args) => commands::bridge::run(args, interrupt).await,
        Command::Publish(args) => commands::publish::run(args, json, interrupt).await,
        Command::Consume(args) => commands::consume::run(args, interrupt).await,
        Command::Topics(args) => commands::topics::run(args, json).await,
        Command::Groups(args) => commands::groups::run(args, json).await,
        Command::DeadLetters(args) => commands::dead_letters::run(args, json, interrupt).await,
        Command::Demo(args) => demo::run(args, json, interrupt).await,
        Command::Completions { shell } => commands::completions::run(shell),
    }
}
