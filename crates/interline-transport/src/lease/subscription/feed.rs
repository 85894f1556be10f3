//! The feed of a member.

use std::sync::Arc;

use interline_core::{Budget, Result, Signal};
use tokio::task::coop;
use tokio::time::{Instant, timeout};

use super::Membership;
use super::shared::{Shared, Step};

/// One member's feed of signals. Leases are renewed as long as it is asked for the next one.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
    _membership: Arc<Membership>,
}

impl Feed {
    pub(super) fn new(shared: Arc<Shared>, membership: Arc<Membership>) -> Self {
        Self {
            shared,
            _membership: membership,
        }
    }
}

impl interline_core::Feed for Feed {
    async fn next(&mut self, budget: Budget) -> Result<Signal> {
        // A full log would never let another task of this thread run.
        coop::consume_budget().await;
        loop {
            // A signal is taken and returned without a point of suspension between.
            match self.shared.step(budget, Instant::now())? {
                Step::Signal(signal) => return Ok(signal),
                Step::Wait => {
                    // Who waits shows at every tick that it is there; late is as good as woken.
                    let woken = self.shared.feed.notified();
                    drop(timeout(self.shared.timing.tick, woken).await);
                }
            }
        }
    }
}
