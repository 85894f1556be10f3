//! PostgreSQL, as the system's packages have it.

use std::path::PathBuf;
use std::process::Command;

use super::kind::{Kind, Program};
use super::server::Server;
use super::{native, probe};
use crate::tools::tool;
use crate::{Result, exec};

/// PostgreSQL refuses to run as root; the packages bring this user.
const USER: &str = "postgres";

/// A startup packet of protocol 3.0 for the user `postgres`.
const STARTUP: &[u8] = b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0";

pub(super) const KIND: Kind = Kind {
    name: "postgres",
    ports: &["PORT"],
    urls: &[
        (
            "URL",
            "postgres://postgres:{PASSWORD}@127.0.0.1:{PORT}/interline",
        ),
        (
            "OWNER_URL",
            "postgres://interline_owner:{PASSWORD}@127.0.0.1:{PORT}/interline",
        ),
        (
            "APP_URL",
            "postgres://interline:{PASSWORD}@127.0.0.1:{PORT}/interline",
        ),
        (
            "TLS_URL",
            "postgres://interline:{PASSWORD}@localhost:{PORT}/interline?tls_ca={DIR}/tls/ca.pem",
        ),
    ],
    // It asks for a password; while it starts or recovers it answers with an error instead.
    is_ready: |address| probe::answers(address, STARTUP, b"R"),
    native: Program {
        tools: &[tool("PostgreSQL's server", is_installed, "postgresql").with_service("postgresql")],
        user: Some(USER),
        format,
        command,
        introduce,
        // Ends it at once, and with it its processes and its shared memory.
        stop: "QUIT",
    },
};

/// A program of PostgreSQL. The search path comes first, so that it chooses the version; Debian keeps the server's
/// programs out of it, in a folder for each version.
fn find(name: &str) -> Option<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let packaged = installed
        .filter_map(|e| {
            Some((
                e.file_name().to_str()?.parse::<u32>().ok()?,
                e.path().join("bin"),
            ))
        })
        .max()
        .map(|(_, programs)| programs);
    let search = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&search)
        .chain(packaged)
        .map(|folder| folder.join(name))
        .find(|program| program.exists())
}

fn is_installed() -> bool {
    ["initdb", "postgres", "psql"]
        .iter()
        .all(|name| find(name).is_some())
}

fn program(name: &str) -> Result<Command> {
    let found = find(name).ok_or_else(|| format!("PostgreSQL's `{name}` is not installed"))?;
    Ok(Command::new(found))
}

fn format(server: &Server) -> Result<()> {
    let mut initdb = program("initdb")?;
    initdb
        .args([
            "--auth=scram-sha-256",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ])
        .arg(format!(
            "--pwfile={}",
            server.dir.join("password").display()
        ))
        .arg("--pgdata")
        .arg(server.dir.join("data"))
        .current_dir(&server.dir);
    native::become_user(&mut initdb, native::other_user(Some(USER))?);
    exec::output(&mut initdb).map(drop)
}

fn command(server: &Server) -> Result<Command> {
    // It would not start beside the process that the file names. That one was killed, but it may be a zombie still,
    // which PostgreSQL takes for a running one.
    let _ = std::fs::remove_file(server.dir.join("data/postmaster.pid"));
    let mut command = program("postgres")?;
    command
        .arg("-D")
        .arg(server.dir.join("data"))
        .arg("-c")
        .arg(format!(
            "config_file={}",
            server.dir.join("postgresql.conf").display()
        ))
        // A socket has a lock file of that kind too, and nobody needs one.
        .args(["-c", "unix_socket_directories="]);
    Ok(command)
}

/// The roles and the database.
fn introduce(server: &Server) -> Result<()> {
    let mut psql = program("psql")?;
    psql.args([
        "--no-psqlrc",
        "--quiet",
        "--set=ON_ERROR_STOP=1",
        "--username=postgres",
        "--dbname=postgres",
    ])
    .args(["--host=127.0.0.1", &format!("--port={}", server.port())])
    .env("PGPASSWORD", &server.password)
    .arg("--file")
    .arg(server.dir.join("roles.sql"));
    exec::output(&mut psql).map(drop)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_startup_packet_states_its_own_length() {
        assert_eq!(usize::from(super::STARTUP[3]), super::STARTUP.len());
    }
}
