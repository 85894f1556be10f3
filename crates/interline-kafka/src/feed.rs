//! The feed of a member.

use std::future::poll_fn;
use std::sync::Arc;

use interline_core::{Budget, Result, Signal};

use crate::error::closed;
use crate::member::Handle;
use crate::outbox::End;

/// One member's feed of signals; see [`interline_core::Feed`].
///
/// A thread of its own reads ahead, at most eight batches, and takes part in the group whatever
/// the owner of the feed does: a handler may take any time without its member being evicted.
#[derive(Debug)]
pub struct Feed(pub(crate) Arc<Handle>);

impl interline_core::Feed for Feed {
    async fn next(&mut self, budget: Budget) -> Result<Signal> {
        let outbox = &self.0.outbox;
        match poll_fn(|cx| outbox.poll_next(cx, budget)).await {
            Ok(signal) => Ok(signal),
            Err(End::Failed(failure)) => Err(failure.error("next")),
            Err(End::Closed | End::Complete) => Err(closed("next")),
        }
    }
}
