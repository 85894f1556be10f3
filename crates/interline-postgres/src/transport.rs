//! The transport.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use interline_core::{
    Capabilities, Control as _, Error, ErrorKind, PublisherOptions, ReadSpec, Result, State,
    SubscribeSpec,
};
use interline_transport::lease::{self, Timing, WeakControl};
use tokio::time::Instant;

use crate::SCHEME;
use crate::admin::Admin;
use crate::control::{Control, Groups};
use crate::feed::Feed;
use crate::link::Link;
use crate::publisher::{Closer, Publisher};
use crate::reader::Reader;

/// A connection to a database, cheap to clone; see [`interline_core::Transport`].
#[derive(Clone, Debug)]
pub struct Transport {
    pub(crate) link: Arc<Link>,
    opened: Arc<Mutex<Opened>>,
}

/// What has to be closed with the transport.
#[derive(Debug, Default)]
struct Opened {
    publishers: Vec<Closer>,
    members: Vec<WeakControl>,
}

impl Transport {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
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
        let mut opened = self.opened();
        opened.publishers.retain(Closer::is_open);
        opened.publishers.push(publisher.closer());
        drop(opened);
        Ok(publisher)
    }

    async fn subscribe(&self, spec: SubscribeSpec) -> Result<(Feed, Control)> {
        self.link.check_open("subscribe")?;
        self.link.named("subscribe", &spec.topics).await?;
        let timing = Timing::default();
        let groups = Groups::new(Arc::clone(&self.link), spec.group.clone(), timing);
        let (feed, control) = lease::subscribe(groups, spec, timing).await?;
        let mut opened = self.opened();
        opened.members.retain(|member| member.upgrade().is_some());
        opened.members.push(control.downgrade());
        drop(opened);
        Ok((feed, control))
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
        let Opened {
            publishers,
            members,
        } = std::mem::take(&mut *self.opened());
        let mut left = 0;
        for publisher in publishers {
            let rest = end.saturating_duration_since(Instant::now());
            left += publisher.close(rest).await.len();
        }
        for member in members.iter().filter_map(WeakControl::upgrade) {
            let rest = end.saturating_duration_since(Instant::now());
            // What the server does not hear of it will notice.
            let _ = member.close(rest).await;
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
