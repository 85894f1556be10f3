//! Waiting until what the server has answered is on its disk.
//!
//! The server syncs its log by itself, once a second, and can be asked to answer when it has. That
//! holds up its connection, so it is asked over one of its own while publishing goes on, and one
//! wait serves every batch that was answered before it began.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;
use interline_core::{Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use uuid::Uuid;

use super::line::LIFE;
use crate::client::{Link, SYNC, Use};
use crate::error::error;
use crate::reply::{bytes, list, number, odd};
use crate::server::Server;

/// The pause before the server is asked again, when it could not be asked or its disk is slow.
const PAUSE: Duration = Duration::from_millis(50);

/// The waits of one publisher. The first one starts the task that serves them all.
#[derive(Debug)]
pub(super) struct Syncs {
    server: Arc<Server>,
    asked: OnceLock<mpsc::UnboundedSender<Wait>>,
}

/// Somebody who waits for a batch of a session.
#[derive(Debug)]
struct Wait {
    session: Bytes,
    batch: u64,
    done: oneshot::Sender<Result<()>>,
}

impl Syncs {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self {
            server,
            asked: OnceLock::new(),
        }
    }

    /// Waits until `batch` of `session`, which was answered, is on the disk, through outages too.
    ///
    /// # Errors
    /// If the server lost the batch before that.
    pub(super) async fn wait(&self, session: Bytes, batch: u64) -> Result<()> {
        let start = || {
            let (asked, waits) = mpsc::unbounded_channel();
            tokio::spawn(serve(Arc::clone(&self.server), waits));
            asked
        };
        let (done, synced) = oneshot::channel();
        let wait = Wait {
            session,
            batch,
            done,
        };
        // The task ends after its sender, which is here.
        let _ = self.asked.get_or_init(start).send(wait);
        synced.await.unwrap_or_else(|_| Err(lost()))
    }
}

/// Serves the waits until nobody can ask any more.
async fn serve(server: Arc<Server>, mut asked: mpsc::UnboundedReceiver<Wait>) {
    let mut link = None;
    let mut waits = Vec::new();
    loop {
        if waits.is_empty() && asked.recv_many(&mut waits, usize::MAX).await == 0 {
            return;
        }
        while let Ok(wait) = asked.try_recv() {
            waits.push(wait);
        }
        waits.retain(|wait: &Wait| !wait.done.is_closed());
        if link.is_none() {
            link = server.link(Use::Syncing).await.ok();
        }
        let synced = match &link {
            Some(link) if link.is_up() => synced(link, &waits).await,
            _ => Err(lost()),
        };
        match synced {
            Ok(batches) => {
                for (wait, last) in waits.drain(..).zip(batches) {
                    let kept = last.is_some_and(|last| last >= wait.batch);
                    // Nobody hears it whose time is over.
                    let _ = wait.done.send(if kept { Ok(()) } else { Err(lost()) });
                }
            }
            Err(failed) => {
                tracing::debug!(target: "interline::redis", %failed, "the disk is waited for");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Waits for the disk once; for each wait the last batch of its session that is on it.
///
/// The server waits for what the asking connection has written, so each session is written to: that
/// is later in the log than its batches. It also tells whether they are there: a server that died
/// may have lost them after it answered.
///
/// # Errors
/// If the connection was cut or the disk is too slow: nothing is known.
async fn synced(link: &Link, waits: &[Wait]) -> Result<Vec<Option<u64>>> {
    let call = |command, args| link.call("publish", command, args);
    // A connection that replaces a cut one has written nothing and would be answered at once. It
    // has no name either.
    let name = Uuid::new_v4().simple().to_string();
    call("CLIENT", vec!["SETNAME".into(), (&*name).into()]).await?;
    let mut last: Vec<(&Bytes, Option<u64>)> = Vec::new();
    for wait in waits {
        if last.iter().any(|(session, _)| **session == wait.session) {
            continue;
        }
        let key = Value::Bytes(wait.session.clone());
        let state = call("GETEX", vec![key, "PX".into(), millis(LIFE)]).await?;
        last.push((
            &wait.session,
            bytes(state).and_then(|state| last_batch(&state)),
        ));
    }
    let one_disk = vec![Value::Integer(1), Value::Integer(0), millis(SYNC)];
    let disks = list(call("WAITAOF", one_disk).await?).into_iter().next();
    let same = bytes(call("CLIENT", vec!["GETNAME".into()]).await?);
    if same.as_deref() != Some(name.as_bytes()) || disks.and_then(number::<u8>) != Some(1) {
        return Err(odd("publish"));
    }
    let of = |wait: &Wait| last.iter().find(|(session, _)| **session == wait.session);
    Ok(waits.iter().map(|wait| of(wait)?.1).collect())
}

/// The number of the last batch that a session's state tells of.
fn last_batch(state: &[u8]) -> Option<u64> {
    let line = state.split(|byte| *byte == b'\n').next()?;
    std::str::from_utf8(line).ok()?.parse().ok()
}

fn millis(time: Duration) -> Value {
    Value::Integer(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

fn lost() -> Error {
    error(
        ErrorKind::Unavailable,
        "publish",
        "the server lost its connection or its data before the event was on its disk",
        "publish again with the same id",
    )
}
