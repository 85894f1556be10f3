//! One member's feed of signals.

use interline_core::{Budget, Result, Signal};
use interline_transport::lease;

/// One member's feed of signals; see [`interline_core::Feed`].
#[derive(Debug)]
pub struct Feed(pub(crate) lease::Feed);

impl interline_core::Feed for Feed {
    async fn next(&mut self, budget: Budget) -> Result<Signal> {
        self.0.next(budget).await
    }
}
