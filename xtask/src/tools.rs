//! What must be on the machine besides cargo, and how to get it.

use std::path::Path;
use std::process::Command;

use crate::{Result, exec};

/// A tool: how to see that it is there, and the Debian package that brings it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    name: &'static str,
    present: fn() -> bool,
    package: &'static str,
    /// What the package starts by itself when it is installed.
    service: Option<&'static str>,
}

impl Tool {
    /// We start servers of our own: that one is stopped when we have installed it.
    pub(crate) const fn with_service(mut self, service: &'static str) -> Self {
        self.service = Some(service);
        self
    }
}

pub(crate) const fn tool(name: &'static str, present: fn() -> bool, package: &'static str) -> Tool {
    Tool {
        name,
        present,
        package,
        service: None,
    }
}

/// Builds librdkafka, which the Kafka transport links.
pub(crate) const BUILD: &[Tool] = &[
    tool("cmake", || exec::succeeds("cmake", &["--version"]), "cmake"),
    tool(
        "a C compiler",
        || exec::succeeds("cc", &["--version"]),
        "gcc",
    ),
    tool(
        "a C++ compiler",
        || exec::succeeds("c++", &["--version"]),
        "g++",
    ),
    tool("make", || exec::succeeds("make", &["--version"]), "make"),
    tool(
        "pkg-config",
        || exec::succeeds("pkg-config", &["--version"]),
        "pkg-config",
    ),
    tool("OpenSSL's headers", openssl_headers, "libssl-dev"),
];

/// Prepares a server's certificates, whoever runs it.
pub(crate) const PREPARE: &[Tool] = &[tool(
    "openssl",
    || exec::succeeds("openssl", &["version"]),
    "openssl",
)];

fn openssl_headers() -> bool {
    exec::succeeds("pkg-config", &["--exists", "openssl"])
        || Path::new("/usr/include/openssl/ssl.h").exists()
}

/// A Docker engine that runs, with the compose plugin.
pub(crate) fn docker() -> bool {
    exec::succeeds("docker", &["compose", "version"]) && exec::succeeds("docker", &["info"])
}

/// The names of those that are missing.
pub(crate) fn missing(tools: &[Tool]) -> Vec<&'static str> {
    tools
        .iter()
        .filter(|t| !(t.present)())
        .map(|t| t.name)
        .collect()
}

/// Sees to it that `tools` are there: installs what is missing if `install`, else names the command.
pub(crate) fn require(tools: &[Tool], purpose: &str, install: bool) -> Result<()> {
    let absent: Vec<_> = tools.iter().filter(|t| !(t.present)()).collect();
    if absent.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = absent.iter().map(|t| t.name).collect();
    let packages: Vec<_> = absent.iter().map(|t| t.package).collect();
    if !install {
        let (names, packages) = (names.join(", "), packages.join(" "));
        return Err(format!(
            "{purpose} needs {names}: run `apt-get install -y {packages}` or pass --install"
        )
        .into());
    }
    println!("installing {}", packages.join(" "));
    apt_get(&["update", "-qq"])?;
    apt_get(
        &[
            &["install", "-y", "-qq", "--no-install-recommends"],
            &packages[..],
        ]
        .concat(),
    )?;
    for service in absent.iter().filter_map(|t| t.service) {
        let stop = format!("systemctl disable --now {service} || service {service} stop || true");
        exec::output(&mut as_root(&["/bin/sh", "-c", &stop]))?;
    }
    match missing(tools) {
        still if still.is_empty() => Ok(()),
        still => Err(format!("{} still missing after the installation", still.join(", ")).into()),
    }
}

fn apt_get(args: &[&str]) -> Result<()> {
    let mut command = as_root(&["apt-get"]);
    exec::output(command.args(args).env("DEBIAN_FRONTEND", "noninteractive")).map(drop)
}

fn as_root(words: &[&str]) -> Command {
    let sudo = [
        "sudo",
        "--non-interactive",
        "--preserve-env=DEBIAN_FRONTEND",
    ];
    let is_root = exec::succeeds("/bin/sh", &["-c", "test \"$(id -u)\" = 0"]);
    let mut words = if is_root { &[][..] } else { &sudo[..] }
        .iter()
        .chain(words);
    let mut command = Command::new(words.next().unwrap_or(&"true"));
    command.args(words);
    command
}
