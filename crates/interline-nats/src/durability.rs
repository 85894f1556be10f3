//! What an acknowledgement survives.

use interline_core::{Durability, ErrorKind, Result};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::api::StreamConfig;
use crate::config::Resolved;
use crate::error::error;

/// The longest answer of the monitoring that is read.
const MOST: u64 = 1 << 20;

/// Whether the server writes to disk before it acknowledges, and who says so.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Syncs {
    pub(crate) always: bool,
    /// The server was asked, not only its operator.
    pub(crate) is_verified: bool,
}

impl Syncs {
    /// The level of a stream with so many replicas.
    pub(crate) fn level(self, replicas: usize) -> Durability {
        match (replicas >= 2, self.always) {
            (false, false) => Durability::Process,
            (false, true) => Durability::Disk,
            (true, false) => Durability::Quorum,
            (true, true) => Durability::QuorumDisk,
        }
    }

    /// The level of a stream as it is set up.
    pub(crate) fn of(self, stream: &StreamConfig) -> Durability {
        // Either acknowledges what only the server's process holds.
        if stream.storage == "memory" || stream.persist_mode == "async" {
            return Durability::Memory;
        }
        self.level(stream.num_replicas)
    }
}

/// What the server says of itself through its monitoring, or the operator for it.
pub(crate) async fn of_server(resolved: &Resolved) -> Result<Syncs> {
    let declared = resolved.config.sync_always;
    let Some(monitor) = &resolved.config.monitor else {
        return Ok(Syncs {
            always: declared,
            // That nothing is promised needs no proof.
            is_verified: !declared,
        });
    };
    let asked = tokio::time::timeout(resolved.config.request_timeout, ask(monitor)).await;
    let always = asked.ok().flatten().ok_or_else(|| {
        error(
            ErrorKind::Config,
            "connect",
            format!(
                "the monitoring at `{}` does not answer",
                monitor.escape_debug()
            ),
            "set `http_port` in the server's configuration, or remove `monitor`",
        )
    })?;
    if declared && !always {
        return Err(error(
            ErrorKind::Config,
            "connect",
            "`sync_always` is declared, and the server's monitoring says otherwise",
            "set `sync_interval: always` in the server's configuration, or remove `sync_always`",
        ));
    }
    Ok(Syncs {
        always,
        is_verified: true,
    })
}

/// The part of `/varz` that matters.
#[derive(Deserialize)]
struct Varz {
    jetstream: Jetstream,
}

#[derive(Deserialize)]
struct Jetstream {
    config: Option<JetstreamConfig>,
}

#[derive(Deserialize)]
struct JetstreamConfig {
    #[serde(default)]
    sync_always: bool,
}

/// Asks the monitoring by the oldest HTTP, which closes the connection behind its answer.
async fn ask(monitor: &str) -> Option<bool> {
    let mut stream = TcpStream::connect(monitor).await.ok()?;
    stream.write_all(b"GET /varz HTTP/1.0\r\n\r\n").await.ok()?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer).await.ok()?;
    let body = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let varz: Varz = serde_json::from_slice(answer.get(body + 4..)?).ok()?;
    Some(varz.jetstream.config?.sync_always)
}
