//! Apache Kafka in a container, by deploy/kafka/compose.yaml.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Result, root};

/// One compose project per broker, so that several run beside each other.
fn compose(project: &str, env: &[(&str, String)]) -> Command {
    let mut command = Command::new("docker");
    command
        .args(["compose", "--project-name", project, "--file"])
        .arg(root().join("deploy/kafka/compose.yaml"));
    command
        .envs(env.iter().map(|(k, v)| (k, v)))
        .stdin(Stdio::null());
    command
}

/// Ends with the container started; it may not be ready yet.
pub(super) fn up(project: &str, dir: &Path, env: &[(&'static str, String)]) -> Result<()> {
    run(compose(project, &with_place(dir, env)?).args(["up", "--detach"]))
}

/// Starts a killed container again, with its data.
pub(super) fn start(project: &str) -> Result<()> {
    run(compose(project, &[]).args(["start", "kafka"]))
}

pub(super) fn kill(project: &str) -> Result<()> {
    run(compose(project, &[]).args(["kill", "--signal", "KILL", "kafka"]))
}

pub(super) fn down(project: &str) -> Result<()> {
    run(compose(project, &[]).args(["down", "--volumes", "--timeout", "1"]))
}

pub(super) fn is_running(project: &str) -> bool {
    let listed = compose(project, &[])
        .args(["ps", "--status", "running", "--quiet", "kafka"])
        .output();
    listed.is_ok_and(|o| !o.stdout.is_empty())
}

pub(super) fn log(project: &str) -> String {
    let logs = compose(project, &[])
        .args(["logs", "--no-color", "--tail", "40", "kafka"])
        .output();
    logs.map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
        .unwrap_or_default()
}

fn with_place(dir: &Path, env: &[(&'static str, String)]) -> Result<Vec<(&'static str, String)>> {
    let owner = std::fs::metadata(dir)?;
    let mut env = env.to_vec();
    env.push(("INTERLINE_KAFKA_DIR", dir.display().to_string()));
    env.push((
        "INTERLINE_KAFKA_USER",
        format!("{}:{}", owner.uid(), owner.gid()),
    ));
    Ok(env)
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
