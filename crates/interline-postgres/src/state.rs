//! Whether the server answers.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use interline_core::State;

/// What the last try to reach the server said.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    trouble: Mutex<Option<(SystemTime, String)>>,
}

impl Monitor {
    fn lock(&self) -> MutexGuard<'_, Option<(SystemTime, String)>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn up(&self) {
        *self.lock() = None;
    }

    pub(crate) fn down(&self, cause: &interline_core::Error) {
        let mut trouble = self.lock();
        let since = trouble.as_ref().map(|(since, _)| *since);
        *trouble = Some((since.unwrap_or_else(SystemTime::now), cause.to_string()));
    }

    pub(crate) fn state(&self) -> State {
        match &*self.lock() {
            None => State::Connected,
            Some((since, cause)) => State::Reconnecting {
                since: *since,
                cause: cause.clone(),
            },
        }
    }
}
