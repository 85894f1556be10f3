//! The record of started servers, in a file so that any process can stop or break them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::kafka::Kafka;
use super::native;
use crate::{Result, root};

/// Which servers run, and for whom.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// The process that stops them when it ends; none for `services up`.
    owner: Option<u32>,
    pub(super) kafka: Option<Kafka>,
}

impl State {
    /// Where `services up` records its servers.
    pub(super) fn shared_file() -> PathBuf {
        root().join(".cache/services.json")
    }

    /// Where this process records servers of its own.
    pub(super) fn run_file() -> PathBuf {
        runs().join(format!("{}.json", std::process::id()))
    }

    /// The records of all processes that started servers of their own.
    pub(super) fn of_runs() -> Vec<(PathBuf, Self)> {
        let entries = fs::read_dir(runs()).into_iter().flatten().flatten();
        entries
            .filter_map(|e| Self::load(&e.path()).ok().map(|state| (e.path(), state)))
            .collect()
    }

    pub(super) fn create(file: &Path, owner: Option<u32>) -> Result<()> {
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        Self { owner, kafka: None }.save(file)
    }

    pub(super) fn load(file: &Path) -> Result<Self> {
        match fs::read_to_string(file) {
            Ok(text) => {
                Ok(serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(format!("{}: {e}", file.display()).into()),
        }
    }

    /// Records `kafka`. Fails when the file is gone: its owner has stopped everything meanwhile.
    pub(super) fn record(file: &Path, kafka: &Kafka) -> Result<()> {
        if !file.exists() {
            return Err("the run that owned this server has ended".into());
        }
        let state = Self {
            kafka: Some(kafka.clone()),
            ..Self::load(file)?
        };
        state.save(file)
    }

    pub(super) fn remove(file: &Path) {
        let _ = fs::remove_file(file);
    }

    pub(super) fn owner_is_gone(&self) -> bool {
        self.owner
            .is_some_and(|pid| !native::is_running(pid, "xtask"))
    }

    /// Whole or not at all, since others read it; for the owner alone, since it holds a password.
    fn save(&self, file: &Path) -> Result<()> {
        let new = file.with_extension(format!("{}.new", std::process::id()));
        let mut opened = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        opened.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
        fs::rename(&new, file)?;
        Ok(())
    }
}

fn runs() -> PathBuf {
    root().join(".cache/run")
}
