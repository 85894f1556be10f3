//! The stream that wakes a reading.

use std::sync::Arc;

use bytes::Bytes;
use fred::types::{Resp3Frame, Value};
use interline_core::Position;

use crate::reply::{self, bytes, list};
use crate::server::Server;

/// How long an entry that wakes a reading is kept.
const WAKE_LIFE_MS: i64 = 60_000;

/// The stream that wakes a reading.
pub(super) struct Wake {
    pub(super) key: Bytes,
    pub(super) seen: Position,
    /// An entry is on its way.
    pub(super) is_rung: bool,
}

impl Wake {
    pub(super) fn new(key: Bytes) -> Self {
        Self {
            key,
            seen: Position::default(),
            is_rung: false,
        }
    }

    /// Notes which entries came.
    pub(super) fn heard(&mut self, entries: Resp3Frame) {
        let ids = list(entries).into_iter().filter_map(|entry| {
            let id = list(entry).into_iter().next().and_then(bytes)?;
            reply::position(&id)
        });
        self.seen = ids.max().unwrap_or(self.seen).max(self.seen);
    }

    /// Ends the read that waits at the server, so that the next one reads what has changed. If it
    /// fails the read ends by itself after a second.
    pub(super) fn ring(&mut self, server: &Arc<Server>) {
        if std::mem::replace(&mut self.is_rung, true) {
            return;
        }
        let (server, stream) = (Arc::clone(server), Value::Bytes(self.key.clone()));
        tokio::spawn(async move {
            let entry = ["MAXLEN", "1", "*", "w", ""].map(Value::from_static_str);
            let add = std::iter::once(stream.clone()).chain(entry).collect();
            if server.link.call("read", "XADD", add).await.is_ok() {
                let life = vec![stream, Value::Integer(WAKE_LIFE_MS)];
                // It would only be kept a little longer.
                let _ = server.link.call("read", "PEXPIRE", life).await;
            }
        });
    }
}
