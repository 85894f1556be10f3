//! The transport.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use interline_core::{
    Cadence, Capabilities, Dedupe, Durability, Error, ErrorKind, LagAccuracy, PublisherOptions,
    ReadSpec, Result, State, SubscribeSpec, Topic,
};
use interline_transport::lease::{self, Timing, WeakControl};

use crate::SCHEME;
use crate::admin::Admin;
use crate::control::Control;
use crate::feed::Feed;
use crate::leases::Leases;
use crate::publisher::{Closer, Publisher};
use crate::reader::Reader;
use crate::server::Server;

/// A connection to a Redis server, cheap to clone; see [`interline_core::Transport`].
#[derive(Clone, Debug)]
pub struct Transport {
    server: Arc<Server>,
    capabilities: Capabilities,
    opened: Arc<Mutex<Opened>>,
}

/// What has to be closed with the transport.
#[derive(Debug, Default)]
struct Opened {
    publishers: Vec<Closer>,
    members: Vec<WeakControl>,
}

impl Transport {
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self {
            capabilities: capabilities(&server),
            server,
            opened: Arc::default(),
        }
    }

    pub(crate) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    fn note(&self, change: impl FnOnce(&mut Opened)) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.publishers.retain(Closer::is_open);
        opened.members.retain(|member| member.upgrade().is_some());
        change(&mut opened);
    }
}

fn capabilities(server: &Server) -> Capabilities {
    let probe = server.probe();
    let mut capabilities = declared();
    capabilities.durability = probe.level(server.resolved.min_durability);
    capabilities.durability_verified = probe.is_verified(capabilities.durability);
    if let Some(window) = server.resolved.config.dedupe_window {
        capabilities.dedupe = Dedupe::Window(window);
    }
    capabilities
}

/// What this transport declares on a server that syncs its log every second, without a dedupe
/// window.
#[must_use]
pub fn declared() -> Capabilities {
    let mut capabilities = Capabilities::new(SCHEME);
    capabilities.durability = Durability::Process;
    capabilities.dedupe = Dedupe::Session;
    capabilities.cadence = Cadence {
        every: Duration::from_millis(100),
        count: None,
    };
    capabilities.max_ranges = 1_024;
    capabilities.max_attempts = 1_024;
    capabilities.persistent = true;
    capabilities.start_at_time = true;
    capabilities.manage_topics = true;
    capabilities.foreign_writers = true;
    capabilities.lag = LagAccuracy::Exact;
    capabilities
}

impl interline_core::Transport for Transport {
    type Publisher = Publisher;
    type Feed = Feed;
    type Control = Control;
    type Reader = Reader;
    type Admin = Admin;

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn state(&self) -> State {
        self.server.state()
    }

    async fn publisher(&self, options: PublisherOptions) -> Result<Publisher> {
        self.server.check_open("publish")?;
        let server = Arc::clone(&self.server);
        let publisher = Publisher::open(server, self.capabilities, &options).await?;
        self.note(|opened| opened.publishers.push(publisher.closer()));
        Ok(publisher)
    }

    async fn subscribe(&self, spec: SubscribeSpec) -> Result<(Feed, Control)> {
        self.server.check_open("subscribe")?;
        for name in spec.topics.iter().filter_map(|pattern| pattern.as_exact()) {
            let topic = Topic::system(name)?;
            self.server.require("subscribe", &topic).await?;
        }
        let leases = Leases::new(Arc::clone(&self.server), spec.group.clone());
        let (feed, control) = lease::subscribe(leases, spec, Timing::default()).await?;
        self.note(|opened| opened.members.push(control.downgrade()));
        Ok((feed, control))
    }

    async fn read(&self, spec: ReadSpec) -> Result<Reader> {
        self.server.check_open("read")?;
        Reader::open(Arc::clone(&self.server), spec).await
    }

    fn admin(&self) -> Admin {
        Admin(Arc::clone(&self.server))
    }

    async fn close(&self, deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        let rest = || end.saturating_duration_since(Instant::now());
        let Opened {
            publishers,
            members,
        } = {
            let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *opened)
        };
        let mut left = 0;
        for publisher in publishers {
            left += publisher.close(rest()).await.len();
        }
        for member in members.iter().filter_map(WeakControl::upgrade) {
            interline_core::Control::close(&member, rest()).await?;
        }
        self.server.close();
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
