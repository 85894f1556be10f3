//! Test-only: parts of the engine by themselves, for the benches.

use std::sync::Arc;

use interline_core::{Kind, Pattern, Position, Range, Result};
use interline_reliability::{Failure, Policy};

use super::settlement::{Step, after_attempt};
use super::window::Window;
use crate::handler::Route;
use crate::router::{RouteCache, Router};

/// The frontier of one partition with what is settled beyond it.
#[derive(Debug, Default)]
pub struct Frontier(Window);

impl Frontier {
    /// Adds a delivery; its number.
    pub fn push(&mut self, position: Position) -> u64 {
        self.0.push(position, 1)
    }

    /// Settles the delivery of that number.
    pub fn settle(&mut self, number: u64) {
        self.0.settle(number);
    }

    /// What is settled beyond it.
    #[must_use]
    pub fn done(&self) -> Vec<Range> {
        self.0.done()
    }
}

/// The handlers of a group as the engine looks for them.
#[derive(Debug)]
pub struct Routes(Router, RouteCache);

impl Routes {
    /// Handlers that are never called.
    ///
    /// # Errors
    /// For no pattern, or the same one twice.
    pub fn new(patterns: impl IntoIterator<Item = Pattern>) -> Result<Self> {
        let route = |pattern| Route {
            pattern,
            name: "bench",
            limit: None,
            batch: None,
            slot: Box::new(|| unreachable!("no handler is called")),
        };
        let router = Router::new(patterns.into_iter().map(route).collect())?;
        Ok(Self(router, RouteCache::default()))
    }

    /// Which of them takes events of this kind.
    pub fn find(&mut self, kind: &Arc<Kind>) -> Option<usize> {
        self.1.find(&self.0, kind)
    }
}

/// Whether a delivery is settled once its first attempt has ended like this.
#[must_use]
pub fn settles(policy: &Policy, handled: std::result::Result<(), Failure>) -> bool {
    matches!(after_attempt(policy, 1, handled, 0.5), Step::Settle)
}
