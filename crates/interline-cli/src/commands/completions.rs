//! `interline completions`.

use clap::CommandFactory as _;

use crate::args::Cli;
use crate::output;
use crate::stop::{Exit, Stop};

pub(crate) fn run(shell: clap_complete::Shell) -> Result<Exit, Stop> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "interline", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
