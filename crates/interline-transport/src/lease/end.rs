//! Why a membership is over.

use std::sync::Arc;

use interline_core::{Error, ErrorKind, Topic};

/// Why a membership is over. An error cannot be cloned, and every later call has to say it again.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum End {
    /// It was closed.
    Closed,
    /// Another process has joined under the same instance.
    Replaced,
    /// A topic that the reading names was deleted.
    Deleted(Topic),
    /// The group was deleted.
    Forgotten,
    /// The transport said something that does not pass.
    Failed(Arc<Error>),
}

impl End {
    /// The error of `operation` on `transport`, made anew for each call.
    #[must_use]
    pub fn error(&self, operation: &'static str, transport: &'static str) -> Error {
        match self {
            Self::Closed => Error::closed(operation),
            Self::Replaced => Error::new(
                ErrorKind::Closed,
                operation,
                "another member joined under the same instance and took this membership over",
            )
            .remedy("give every running member an instance of its own"),
            Self::Deleted(topic) => Error::new(
                ErrorKind::NotFound,
                operation,
                format!("topic `{topic}` was deleted"),
            )
            .remedy("create it again and subscribe anew"),
            Self::Forgotten => Error::new(ErrorKind::Closed, operation, "the group was deleted")
                .remedy("subscribe anew to begin it again"),
            Self::Failed(error) => error.again(),
        }
        .on(transport)
    }
}
