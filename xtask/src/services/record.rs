//! The records of started servers: a file NAME.json for each, so that any process can stop or break it.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::server::Server;
use crate::{Result, root};

/// Where `services up` records its servers.
pub(super) fn shared_folder() -> PathBuf {
    root().join(".cache/services")
}

/// Where this process records servers of its own.
pub(super) fn own_folder() -> PathBuf {
    runs().join(std::process::id().to_string())
}

fn runs() -> PathBuf {
    root().join(".cache/run")
}

pub(super) fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(name).with_extension("json")
}

/// All servers that processes have started for themselves.
pub(super) fn of_runs() -> Vec<(PathBuf, Server)> {
    let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    entries(runs())
        .flat_map(|run| entries(run.path()))
        .filter_map(|e| Some((e.path(), load(&e.path()).ok()??)))
        .collect()
}

/// The server that `file` records, if there is such a file.
pub(super) fn load(file: &Path) -> Result<Option<Server>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(
            serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?,
        )),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("{}: {e}", file.display()).into()),
    }
}

pub(super) fn create(file: &Path, server: &Server) -> Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    save(file, server)
}

/// Fails when the file is gone: the server's owner has stopped everything meanwhile.
pub(super) fn update(file: &Path, server: &Server) -> Result<()> {
    if !file.exists() {
        return Err("the run that owned this server has ended".into());
    }
    save(file, server)
}

/// With its folder, unless something else is recorded there.
pub(super) fn remove(file: &Path) {
    let _ = fs::remove_file(file);
    if let Some(folder) = file.parent() {
        let _ = fs::remove_dir(folder);
    }
}

/// Whole or not at all, since others read it; for the owner alone, since it holds a password.
fn save(file: &Path, server: &Server) -> Result<()> {
    let new = file.with_extension(format!("{}.new", std::process::id()));
    let mut opened = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    opened.write_all(serde_json::to_string_pretty(server)?.as_bytes())?;
    fs::rename(&new, file)?;
    Ok(())
}
