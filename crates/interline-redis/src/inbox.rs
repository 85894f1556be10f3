//! The inbox of groups, kept at the server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;
use interline_core::Claim;
use interline_core::{BoxFuture, Group, Result};
use uuid::Uuid;

use crate::reply::{number, odd};
use crate::scripts::{INBOX_CLAIM, INBOX_RELEASE};
use crate::server::Server;
use crate::transport::Transport;

/// What groups have handled, remembered by the server and shared by all members; see
/// [`interline_core::Inbox`].
///
/// It suppresses what would run twice after a crash, as far as a lease can: a handler that
/// outlives its claim may overlap with another run. An event takes one key for as long as it is
/// remembered, about 150 bytes.
///
/// ```no_run
/// # async fn example() -> interline_core::Result<()> {
/// use std::time::Duration;
///
/// let transport = interline_redis::connect("redis://localhost").await?;
/// let inbox = interline_redis::native::Inbox::new(&transport, Duration::from_secs(7 * 86_400));
/// # drop(inbox); Ok(()) }
/// ```
pub struct Inbox {
    server: Arc<Server>,
    ttl: Duration,
}

impl Inbox {
    /// An inbox that remembers for `ttl`, which should exceed the retention of the topics and the
    /// time after which dead letters are redriven.
    #[must_use]
    pub fn new(transport: &Transport, ttl: Duration) -> Self {
        Self {
            server: Arc::clone(transport.server()),
            ttl,
        }
    }

    fn key(&self, group: &Group, id: Uuid) -> Bytes {
        self.server.resolved.keys.inbox(group, id)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inbox at {}, {:?}", self.server.resolved.place, self.ttl)
    }
}

fn millis(duration: Duration) -> Value {
    // The server takes no life of zero.
    Value::Integer(i64::try_from(duration.as_millis().max(1)).unwrap_or(i64::MAX))
}

impl interline_core::Inbox for Inbox {
    fn claim<'a>(
        &'a self,
        group: &'a Group,
        id: Uuid,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Claim>> {
        Box::pin(async move {
            let (link, keys) = (&self.server.link, [self.key(group, id)]);
            let answer = link
                .run("claim", &INBOX_CLAIM, &keys, vec![millis(lease)])
                .await?;
            match number::<i64>(answer).ok_or_else(|| odd("claim"))? {
                -2 => Ok(Claim::Fresh),
                -1 => Ok(Claim::Done),
                left => Ok(Claim::Busy(Duration::from_millis(left.unsigned_abs()))),
            }
        })
    }

    fn done<'a>(&'a self, group: &'a Group, id: Uuid) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let key = Value::Bytes(self.key(group, id));
            let args = vec![key, "done".into(), "PX".into(), millis(self.ttl)];
            self.server
                .link
                .call("settle", "SET", args)
                .await
                .map(|_| ())
        })
    }

    fn release<'a>(&'a self, group: &'a Group, id: Uuid) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let (link, keys) = (&self.server.link, [self.key(group, id)]);
            let released = link.run("release", &INBOX_RELEASE, &keys, Vec::new()).await;
            released.map(|_| ())
        })
    }
}
