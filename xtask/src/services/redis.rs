//! Redis, as the system's packages have it.

use std::process::Command;

use super::kind::{Kind, Program};
use super::probe;
use crate::exec;
use crate::tools::tool;

pub(super) const KIND: Kind = Kind {
    name: "redis",
    ports: &["PORT", "TLS_PORT"],
    urls: &[
        ("URL", "redis://127.0.0.1:{PORT}"),
        ("APP_URL", "redis://interline:{PASSWORD}@127.0.0.1:{PORT}"),
        (
            "TLS_URL",
            "redis://interline:{PASSWORD}@localhost:{TLS_PORT}?tls_ca={DIR}/tls/ca.pem",
        ),
    ],
    is_ready: |address| probe::answers(address, b"PING\r\n", b"+PONG"),
    native: Program {
        tools: &[tool(
            "redis-server",
            || exec::succeeds("redis-server", &["--version"]),
            "redis-server",
        )
        .with_service("redis-server")],
        user: None,
        format: |server| Ok(std::fs::create_dir(server.dir.join("data"))?),
        command: |server| {
            let mut command = Command::new("redis-server");
            command.arg(server.dir.join("redis.conf"));
            Ok(command)
        },
        introduce: |_| Ok(()),
        stop: "KILL",
    },
};
