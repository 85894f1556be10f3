//! The transport.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use interline_core::{
    Capabilities, Control as _, Error, ErrorKind, PublisherOptions, ReadSpec, Result, State,
    SubscribeSpec, Topic,
};
use interline_transport::lease::{self, Timing, WeakControl};
use tokio::time::Instant;

use crate::admin::Admin;
use crate::control::Control;
use crate::feed::Feed;
use crate::hub::Hub;
use crate::publisher::{Closer, Publisher};
use crate::reader::Reader;
use crate::source::Leased;

/// A connection to a NATS server, cheap to clone; see [`interline_core::Transport`].
#[derive(Clone)]
pub struct Transport {
    hub: Arc<Hub>,
    opened: Arc<Mutex<Opened>>,
}

/// What has to be closed with the transport.
#[derive(Default)]
struct Opened {
    publishers: Vec<Closer>,
    members: Vec<WeakControl>,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("hub", &self.hub)
            .finish_non_exhaustive()
    }
}

impl Transport {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            opened: Arc::default(),
        }
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl interline_core::Transport for Transport {
    type Publisher = Publisher;
    type Feed = Feed;
    type Control = Control;
    type Reader = Reader;
    type Admin = Admin;

    fn capabilities(&self) -> Capabilities {
        self.hub.capabilities
    }

    fn state(&self) -> State {
        if self.hub.settings.is_closed() {
            return State::Failed {
                cause: "the connection was closed".to_owned(),
            };
        }
        self.hub.settings.monitor.state()
    }

    async fn publisher(&self, options: PublisherOptions) -> Result<Publisher> {
        self.hub.check_open("publish")?;
        let publisher = Publisher::new(&self.hub, &options)?;
        let mut opened = self.opened();
        opened.publishers.retain(Closer::is_open);
        opened.publishers.push(publisher.closer());
        drop(opened);
        Ok(publisher)
    }

    async fn subscribe(&self, spec: SubscribeSpec) -> Result<(Feed, Control)> {
        self.hub.check_open("subscribe")?;
        for name in spec.topics.iter().filter_map(|pattern| pattern.as_exact()) {
            self.hub.require("subscribe", &Topic::system(name)?).await?;
        }
        let leased = Leased::new(&self.hub);
        let (feed, control) = lease::subscribe(leased, spec, Timing::default()).await?;
        let mut opened = self.opened();
        opened.members.retain(|member| member.upgrade().is_some());
        opened.members.push(control.downgrade());
        drop(opened);
        Ok((feed, control))
    }

    async fn read(&self, spec: ReadSpec) -> Result<Reader> {
        self.hub.check_open("read")?;
        Reader::open(&self.hub, &spec).await
    }

    fn admin(&self) -> Admin {
        Admin(Arc::clone(&self.hub))
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        let rest = || end.saturating_duration_since(Instant::now());
        let Opened {
            publishers,
            members,
        } = std::mem::take(&mut *self.opened());
        let mut left = 0;
        for publisher in publishers {
            left += publisher.close(rest()).await.len();
        }
        let mut closed = Ok(());
        for member in members.iter().filter_map(WeakControl::upgrade) {
            closed = closed.and(member.close(rest()).await);
        }
        self.hub.settings.close();
        if left == 0 {
            return closed;
        }
        Err(Error::new(
            ErrorKind::Timeout,
            "close",
            format!("{left} events were not stored before the deadline"),
        )
        .on(crate::SCHEME)
        .remedy("their receipts tell which; close with a longer deadline"))
    }
}
