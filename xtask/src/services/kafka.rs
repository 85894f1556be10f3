//! Apache Kafka, from its jars.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::kind::{Kind, Program};
use super::server::Server;
use super::{cache, probe};
use crate::tools::{Tool, tool};
use crate::{Result, exec, root};

/// Also in deploy/kafka/pom.xml and compose.yaml; a test compares them.
const VERSION: &str = "4.1.1";

/// A fixed id saves one start of the Java machine; every broker has its own directory.
const CLUSTER_ID: &str = "interlineAAAAAAAAAAAAA";

/// What runs the broker, and a client of a single source file.
pub(crate) const TOOLS: &[Tool] = &[
    tool(
        "a JDK",
        || exec::succeeds("javac", &["-version"]),
        "default-jdk-headless",
    ),
    tool("maven", || exec::succeeds("mvn", &["--version"]), "maven"),
];

pub(super) const KIND: Kind = Kind {
    name: "kafka",
    ports: &["PORT", "TLS_PORT", "MTLS_PORT", "CONTROLLER_PORT"],
    urls: &[
        ("URL", "kafka://127.0.0.1:{PORT}"),
        (
            "TLS_URL",
            "kafka://interline:{PASSWORD}@localhost:{TLS_PORT}?sasl=scram-sha-512&tls_ca={DIR}/tls/ca.pem",
        ),
        (
            "MTLS_URL",
            "kafka://localhost:{MTLS_PORT}?tls_ca={DIR}/tls/ca.pem&tls_cert={DIR}/tls/client.crt&tls_key={DIR}/tls/client.key",
        ),
    ],
    // One that has just started knows no broker until its controller has accepted it: only then can topics be created.
    is_ready: |address| probe::brokers(address).map(|known| known > 0),
    native: Program {
        tools: TOOLS,
        user: None,
        format,
        command,
        introduce: |_| Ok(()),
        stop: "KILL",
    },
};

/// The folder of Kafka's jars, fetched through Maven unless it is there.
pub(crate) fn jars() -> Result<PathBuf> {
    cache::fetched(&format!("kafka-{VERSION}"), "lib", |folder| {
        let mut fetch = Command::new("mvn");
        fetch
            .args([
                "--batch-mode",
                "--quiet",
                "dependency:copy-dependencies",
                "-DincludeScope=runtime",
            ])
            .arg("-f")
            .arg(root().join("deploy/kafka/pom.xml"))
            .arg(format!("-DoutputDirectory={}", folder.display()));
        fetch
    })
}

fn java(jars: &Path) -> Command {
    let mut java = Command::new("java");
    java.args([
        "-Xmx512m",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-cp",
    ]);
    java.arg(format!("{}/*", jars.display()));
    java
}

/// Makes the data directory that server.properties names, with the SCRAM user in it.
fn format(server: &Server) -> Result<()> {
    let mut format = java(&jars()?);
    format
        .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID])
        .arg("--add-scram")
        .arg(format!(
            "SCRAM-SHA-512=[name=interline,password={}]",
            server.password
        ))
        .arg("-c")
        .arg(server.dir.join("server.properties"));
    exec::output(&mut format).map(drop)
}

fn command(server: &Server) -> Result<Command> {
    let mut command = java(&jars()?);
    command
        .arg("kafka.Kafka")
        .arg(server.dir.join("server.properties"));
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_same_everywhere() {
        let text =
            |name: &str| std::fs::read_to_string(root().join("deploy/kafka").join(name)).unwrap();
        assert!(text("pom.xml").contains(&format!("<kafka.version>{VERSION}</kafka.version>")));
        assert!(text("compose.yaml").contains(&format!("image: apache/kafka:{VERSION}\n")));
    }
}
