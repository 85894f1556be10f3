//! A server in a container, by deploy/NAME/compose.yaml.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::kind::Kind;
use crate::{Result, root};

/// One compose project per server, so that several of a kind run beside each other.
fn compose(kind: &Kind, project: &str) -> Command {
    let mut command = Command::new("docker");
    command
        .args(["compose", "--project-name", project, "--file"])
        .arg(root().join("deploy").join(kind.name).join("compose.yaml"))
        .stdin(Stdio::null());
    command
}

/// Ends with the container started; it may not be ready yet.
pub(super) fn up(
    kind: &Kind,
    project: &str,
    dir: &Path,
    settings: &[(String, String)],
) -> Result<()> {
    let owner = std::fs::metadata(dir)?;
    let mut command = compose(kind, project);
    command
        .args(["up", "--detach"])
        .envs(settings.iter().map(|(k, v)| (k, v)))
        .env(kind.variable("DIR"), dir)
        .env(
            kind.variable("USER"),
            format!("{}:{}", owner.uid(), owner.gid()),
        );
    run(&mut command)
}

/// Starts a killed container again, with its data.
pub(super) fn start(kind: &Kind, project: &str) -> Result<()> {
    run(compose(kind, project).args(["start", kind.name]))
}

pub(super) fn kill(kind: &Kind, project: &str) -> Result<()> {
    run(compose(kind, project).args(["kill", "--signal", "KILL", kind.name]))
}

pub(super) fn down(kind: &Kind, project: &str) -> Result<()> {
    run(compose(kind, project).args(["down", "--volumes", "--timeout", "1"]))
}

pub(super) fn is_running(kind: &Kind, project: &str) -> bool {
    let listed = compose(kind, project)
        .args(["ps", "--status", "running", "--quiet", kind.name])
        .output();
    listed.is_ok_and(|o| !o.stdout.is_empty())
}

pub(super) fn log(kind: &Kind, project: &str) -> String {
    let logs = compose(kind, project)
        .args(["logs", "--no-color", "--tail", "40", kind.name])
        .output();
    logs.map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
        .unwrap_or_default()
}

fn run(command: &mut Command) -> Result<()> {
    let done = command.output()?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!(
        "docker compose failed: {}",
        String::from_utf8_lossy(&done.stderr).trim()
    )
    .into())
}
