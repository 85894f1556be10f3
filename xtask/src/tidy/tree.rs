//! The workspace as the checks see it: its files and its packages.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::source;
use crate::{Result, exec, root};

/// Everything that the checks read.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) files: Vec<File>,
    pub(super) packages: Vec<Package>,
}

/// One text file that is, or could be, committed.
#[derive(Debug)]
pub(super) struct File {
    /// From the root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    /// For Rust: `text` without comments and without what stands in literals; same lines. Else empty.
    pub(super) code: String,
}

/// A member of the workspace.
#[derive(Debug, Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) dependencies: Vec<Dependency>,
    manifest_path: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// None for an ordinary one, else `dev` or `build`.
    pub(super) kind: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

impl Tree {
    pub(super) fn read() -> Result<Self> {
        let mut list = Command::new("git");
        list.args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(root());
        let listed = exec::output(&mut list)?;
        let files = listed.lines().filter_map(File::read).collect();
        let metadata = exec::output(exec::cargo().args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ]))?;
        Ok(Self {
            files,
            packages: serde_json::from_str::<Metadata>(&metadata)?.packages,
        })
    }

    /// The file with that path, if it is there.
    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|f| f.path == path)
    }

    pub(super) fn has(&self, package: &str) -> bool {
        self.packages.iter().any(|p| p.name == package)
    }
}

impl File {
    /// None for what is no text, or is deleted and not yet committed as such.
    fn read(path: &str) -> Option<Self> {
        let text = fs::read_to_string(root().join(path)).ok()?;
        Some(Self::new(path, text))
    }

    pub(super) fn new(path: &str, text: String) -> Self {
        let code = if path.ends_with(".rs") {
            source::code_only(&text)
        } else {
            String::new()
        };
        Self {
            path: path.to_owned(),
            text,
            code,
        }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// A file of tests alone.
    pub(super) fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }
}

impl Package {
    /// The package's folder, from the root.
    pub(super) fn folder(&self) -> String {
        let manifest = Path::new(&self.manifest_path);
        let folder = manifest.parent().unwrap_or(manifest);
        folder
            .strip_prefix(root())
            .unwrap_or(folder)
            .to_string_lossy()
            .into_owned()
    }
}
