//! What the connections of one transport say about its health.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use interline_core::State;

/// The state of a transport, told by each of its links.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    /// The links that are down, since when and why.
    down: Mutex<BTreeMap<&'static str, (SystemTime, String)>>,
}

impl Monitor {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, (SystemTime, String)>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> State {
        let down = self.lock();
        match down.values().min_by_key(|(since, _)| *since) {
            None => State::Connected,
            Some((since, cause)) => State::Reconnecting {
                since: *since,
                cause: cause.clone(),
            },
        }
    }

    pub(crate) fn healthy(&self, link: &'static str) {
        self.lock().remove(link);
    }

    pub(crate) fn trouble(&self, link: &'static str, cause: &str) {
        let mut down = self.lock();
        match down.get_mut(link) {
            Some((_, known)) => cause.clone_into(known),
            None => {
                down.insert(link, (SystemTime::now(), cause.to_owned()));
            }
        }
    }
}
