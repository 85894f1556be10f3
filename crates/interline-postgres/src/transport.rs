//! The transport.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use interline_core::{
    Capabilities, Error, ErrorKind, PublisherOptions, ReadSpec, Result, State, SubscribeSpec,
};
use tokio::time::Instant;

use crate::SCHEME;
use crate::admin::Admin;
use crate::link::Link;
use crate::publisher::{Closer, Publisher};
use crate::reader::Reader;

/// A connection to a database, cheap to clone; see [`interline_core::Transport`].
#[derive(Clone, Debug)]
pub struct Transport {
    pub(crate) link: Arc<Link>,
    publishers: Arc<Mutex<Vec<Closer>>>,
}

impl Transport {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            publishers: Arc::default(),
        }
    }
}

impl interline_core::Transport for Transport {
    type Publisher = Publisher;
    type Feed = Feed;
    type Control = Control;
    type Reader = Reader;
    type Admin = Admin;

    fn capabilities(&self) -> Capabilities {
        self.link.capabilities
    }

    fn state(&self) -> State {
        if self.link.is_closed() {
            return State::Failed {
                cause: "the connection was closed".to_owned(),
            };
        }
        self.link.monitor.state()
    }

    async fn publisher(&self, options: PublisherOptions) -> Result<Publisher> {
        self.link.check_open("publish")?;
        let publisher = Publisher::new(Arc::clone(&self.link), &options)?;
        let mut publishers = self
            .publishers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        publishers.retain(Closer::is_open);
        publishers.push(publisher.closer());
        drop(publishers);
        Ok(publisher)
    }

    async fn subscribe(&self, spec: SubscribeSpec) -> Result<(Feed, Control)> {
        self.link.check_open("subscribe")?;
        self.link.named("subscribe", &spec.topics).await?;
        todo_lease(spec)
    }

    async fn read(&self, spec: ReadSpec) -> Result<Reader> {
        self.link.check_open("read")?;
        Reader::open(Arc::clone(&self.link), spec).await
    }

    fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.link))
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        let publishers = {
            let mut publishers = self
                .publishers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *publishers)
        };
        let mut left = 0;
        for publisher in publishers {
            let rest = end.saturating_duration_since(Instant::now());
            left += publisher.close(rest).await.len();
        }
        self.link.close();
        if left == 0 {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Timeout,
            "close",
            format!("{left} events were not stored before the deadline"),
        )
        .on(SCHEME)
        .remedy("their receipts tell which; close with a longer deadline"))
    }
}
