//! The feed of a member.

use std::sync::Arc;

use interline_core::{Budget, Result, Signal};
use tokio::task::coop;
use tokio::time::Instant;

use crate::link::Membership;
use crate::store::{Bell, Step};

/// One member's feed of signals. Asking it for the next one renews the member's lease.
#[derive(Debug)]
pub struct Feed {
    membership: Arc<Membership>,
    bell: Arc<Bell>,
}

impl Feed {
    pub(crate) fn new(membership: Arc<Membership>, bell: Arc<Bell>) -> Self {
        Self { membership, bell }
    }
}

impl interline_core::Feed for Feed {
    async fn next(&mut self, budget: Budget) -> Result<Signal> {
        // A full log would never let another task of this thread run.
        coop::consume_budget().await;
        loop {
            // A signal is taken and returned without a point of suspension between.
            match self
                .membership
                .group
                .step(self.membership.id, budget, Instant::now())?
            {
                Step::Signal(signal) => return Ok(signal),
                Step::Wait(until) => self.bell.wait(Some(until)).await,
            }
        }
    }
}
