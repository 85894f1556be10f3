//! NATS with JetStream, built by Go: what systems package is too old.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::kind::{Kind, Program};
use super::{cache, probe, variable};
use crate::Result;
use crate::tools::tool;

/// Unless INTERLINE_NATS_VERSION says otherwise. Also in deploy/nats/compose.yaml; a test compares them.
const VERSION: &str = "2.15.2";

pub(super) const KIND: Kind = Kind {
    name: "nats",
    ports: &["PORT"],
    urls: &[
        ("URL", "nats://127.0.0.1:{PORT}"),
        (
            "APP_URL",
            "nats://app:{PASSWORD}@127.0.0.1:{PORT}?namespace=interline&profile=production",
        ),
        (
            "OPERATOR_URL",
            "nats://interline:{PASSWORD}@127.0.0.1:{PORT}?namespace=interline",
        ),
        // What is declared of the disk has the scenarios over TLS publish in batches.
        (
            "TLS_URL",
            "nats://interline:{PASSWORD}@localhost:{PORT}?namespace=interline&sync_always=on&tls_ca={DIR}/tls/ca.pem",
        ),
    ],
    // It speaks first, and listens only when its streams are recovered.
    is_ready: |address| probe::answers(address, b"", b"INFO "),
    native: Program {
        tools: &[tool("go 1.21 or newer", go_is_usable, "golang-go")],
        user: None,
        format: |_| program().map(drop),
        command: |server| {
            let mut command = Command::new(program()?);
            command.arg("--config").arg(server.dir.join("nats.conf"));
            Ok(command)
        },
        introduce: |_| Ok(()),
        stop: "KILL",
    },
};

fn program() -> Result<PathBuf> {
    let version = std::env::var(variable(KIND.name, "VERSION"));
    let version = version.as_deref().unwrap_or(VERSION);
    let folder = cache::fetched(&format!("nats-server-{version}"), "bin", |folder| {
        let mut install = Command::new("go");
        install
            .arg("install")
            .arg(format!("github.com/nats-io/nats-server/v2@v{version}"))
            .env("GOBIN", folder);
        install
    })?;
    Ok(folder.join("nats-server"))
}

/// From 1.21 on, go fetches by itself the newer release that a module asks for.
fn go_is_usable() -> bool {
    let version = Command::new("go")
        .args(["env", "GOVERSION"])
        .stderr(Stdio::null())
        .output();
    version.is_ok_and(|o| minor(&String::from_utf8_lossy(&o.stdout)) >= Some(21))
}

fn minor(version: &str) -> Option<u32> {
    let rest = version.trim().strip_prefix("go1.")?;
    rest.split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_the_same_everywhere() {
        let compose =
            std::fs::read_to_string(crate::root().join("deploy/nats/compose.yaml")).unwrap();
        let image = format!(
            "image: nats:${{INTERLINE_NATS_VERSION:-{}}}-alpine\n",
            super::VERSION
        );
        assert!(compose.contains(&image));
    }

    #[test]
    fn the_minor_version_of_go() {
        assert_eq!(super::minor("go1.26.8\n"), Some(26));
        assert_eq!(super::minor("go1.9rc1"), Some(9));
        assert_eq!(super::minor("devel"), None);
    }
}
