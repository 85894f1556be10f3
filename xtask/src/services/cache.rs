//! Downloads, kept from run to run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, exec, root};

/// The folder `part` of what `name` says with its version; `fetch` gives the command that fills it unless it is there.
pub(super) fn fetched(name: &str, part: &str, fetch: impl Fn(&Path) -> Command) -> Result<PathBuf> {
    let cache =
        std::env::var_os("INTERLINE_CACHE").map_or_else(|| root().join(".cache"), PathBuf::from);
    let home = std::path::absolute(cache)?.join(name);
    let complete = home.join(part);
    if complete.exists() {
        return Ok(complete);
    }
    println!("fetching {name}");
    // Complete under its final name or not at all, also when two processes fetch at once.
    let partial = home.join(format!("partial-{}", std::process::id()));
    exec::output(&mut fetch(&partial))?;
    if fs::rename(&partial, &complete).is_err() {
        fs::remove_dir_all(&partial)?;
    }
    Ok(complete)
}
