//! What is under way at the server.

use fred::types::Resp3Frame;
use interline_core::{ErrorKind, Result};
use tokio::task::{JoinError, JoinHandle};

use super::compare::Compared;
use crate::client::Link;
use crate::error::error;

/// Something under way at the server; ends when it is dropped.
pub(super) enum Task {
    Connect(JoinHandle<Result<Link>>),
    Compare(JoinHandle<Result<Vec<Compared>>>),
    /// A read of the partitions with these ids.
    Read(JoinHandle<Result<Resp3Frame>>, Vec<u64>),
    Wait(JoinHandle<()>),
}

/// What came of it.
pub(super) enum Done {
    Connected(Result<Link>),
    Compared(Result<Vec<Compared>>),
    Read(Result<Resp3Frame>, Vec<u64>),
    Waited,
}

impl Task {
    /// Waits for its end. A dropped call loses nothing.
    pub(super) async fn done(&mut self) -> Done {
        match self {
            Self::Connect(task) => Done::Connected(flat(task.await)),
            Self::Compare(task) => Done::Compared(flat(task.await)),
            Self::Read(task, asked) => {
                let answer = flat(task.await);
                Done::Read(answer, std::mem::take(asked))
            }
            Self::Wait(task) => {
                // Nothing else comes of a pause.
                let _ = task.await;
                Done::Waited
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        match self {
            Self::Connect(task) => task.abort(),
            Self::Compare(task) => task.abort(),
            Self::Read(task, _) => task.abort(),
            Self::Wait(task) => task.abort(),
        }
    }
}

/// The result of a task that is not aborted while it is waited for.
fn flat<T>(joined: Result<Result<T>, JoinError>) -> Result<T> {
    joined.unwrap_or_else(|cause| {
        Err(error(
            ErrorKind::Closed,
            "read",
            "the runtime is shutting down",
            "keep it running as long as the transport",
        )
        .because(cause))
    })
}
