//! Runs an application of examples/ on one transport, from a copy in which only its `transport = ..` line differs.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::services::Servers;
use crate::{Result, exec, root};

/// The command that runs examples/`name` on `transport`, with `INTERLINE_URL` naming the broker.
pub(super) fn command(name: &str, transport: &str, servers: &Servers) -> Result<Command> {
    // As deep as examples/NAME, so that the paths to the crates hold.
    let copy = root().join(".cache").join(format!("{name}-{transport}"));
    let source = root().join("examples").join(name);
    let _ = fs::remove_dir_all(&copy);
    copy_folder(&source, &copy).map_err(|e| format!("{}: {e}", source.display()))?;
    let manifest = copy.join("Cargo.toml");
    fs::write(
        &manifest,
        with_transport(&fs::read_to_string(&manifest)?, transport)?,
    )?;
    // The versions that everything else was built with; an example has no lock file of its own.
    let _ = fs::copy(root().join("Cargo.lock"), copy.join("Cargo.lock"));
    let mut command = exec::cargo();
    command
        .args(["run", "--quiet", "--manifest-path"])
        .arg(manifest);
    command
        .env("CARGO_TARGET_DIR", target())
        .env("INTERLINE_URL", url(transport, servers)?);
    Ok(command)
}

fn url(transport: &str, servers: &Servers) -> Result<String> {
    if transport == "memory" {
        return Ok("memory://example".to_owned());
    }
    servers.url(transport, "URL")
}

/// One target folder for all examples: they share nearly every dependency.
fn target() -> std::path::PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), Into::into)
        .join("examples")
}

/// The manifest with its line `transport = { package = "interline-memory", .. }` naming another transport.
fn with_transport(manifest: &str, transport: &str) -> Result<String> {
    let is_the_line =
        |line: &&str| line.starts_with("transport ") || line.starts_with("transport=");
    if transport != "memory" && !manifest.lines().any(|l| is_the_line(&l)) {
        return Err(
            "its Cargo.toml has no line `transport = { package = \"interline-memory\", .. }`"
                .into(),
        );
    }
    let lines = manifest.lines().map(|line| match is_the_line(&line) {
        true => line.replace("interline-memory", &format!("interline-{transport}")),
        false => line.to_owned(),
    });
    Ok(lines.collect::<Vec<_>>().join("\n") + "\n")
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true if entry.file_name() == "target" => {}
            true => copy_folder(&entry.path(), &target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::with_transport;

    #[test]
    fn only_the_transport_line_changes() {
        let manifest = "[dependencies]\ninterline = \"1\"\n\
            transport = { package = \"interline-memory\", path = \"../../crates/interline-memory\" }\n";
        let swapped = with_transport(manifest, "kafka").unwrap();
        assert_eq!(
            swapped,
            "[dependencies]\ninterline = \"1\"\n\
            transport = { package = \"interline-kafka\", path = \"../../crates/interline-kafka\" }\n"
        );
        assert_eq!(with_transport(manifest, "memory").unwrap(), manifest);
        assert!(with_transport("[dependencies]\n", "kafka").is_err());
    }
}
