//! The connection.

use std::sync::Arc;
use std::time::Duration;

use interline_core::{
    Cadence, Capabilities, Dedupe, Durability, Error, ErrorKind, LagAccuracy, PublisherOptions,
    ReadSpec, Result, State, SubscribeSpec,
};
use tokio::time::Instant;

use crate::SCHEME;
use crate::admin::Admin;
use crate::config::{Config, Resolved};
use crate::control::Control;
use crate::feed::Feed;
use crate::link::Link;
use crate::publisher::Publisher;
use crate::reader::Reader;
use crate::store::{GENERATION, Store};

/// What this transport can do.
pub(crate) const CAPABILITIES: Capabilities = {
    let mut capabilities = Capabilities::new(SCHEME);
    capabilities.durability = Durability::Memory;
    capabilities.durability_verified = true;
    capabilities.dedupe = Dedupe::Last(GENERATION);
    capabilities.cadence = Cadence {
        every: Duration::from_millis(100),
        // Events are kept until they are settled: committing by count keeps memory small and warm.
        count: Some(1_000),
    };
    capabilities.max_ranges = 1_024;
    capabilities.max_attempts = 1_024;
    capabilities.start_at_time = true;
    capabilities.manage_topics = true;
    capabilities.foreign_writers = true;
    capabilities.lag = LagAccuracy::Exact;
    capabilities
};

/// A handle on a memory. Dropping it closes nothing; what it made stays usable.
#[derive(Clone, Debug)]
pub struct Transport {
    pub(crate) link: Arc<Link>,
}

impl Transport {
    pub(crate) fn open(config: &Config) -> Result<Self> {
        let Resolved {
            name,
            production,
            config,
        } = config.resolve()?;
        check_durability(config.shared.min_durability)?;
        let store = name.map_or_else(Store::new, Store::named);
        Ok(Self {
            link: Link::new(store, config, production),
        })
    }
}

fn check_durability(min: Option<Durability>) -> Result<()> {
    match min {
        Some(min) if min > Durability::Memory => Err(Error::new(
            ErrorKind::Config,
            "connect",
            format!("durability {min} is asked for and memory has D0"),
        )
        .on(SCHEME)
        .remedy("use a transport with a server, or lower `min_durability`")),
        _ => Ok(()),
    }
}

impl interline_core::Transport for Transport {
    type Publisher = Publisher;
    type Feed = Feed;
    type Control = Control;
    type Reader = Reader;
    type Admin = Admin;

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn state(&self) -> State {
        if self.link.is_closed() {
            return State::Failed {
                cause: "the transport was closed".to_owned(),
            };
        }
        State::Connected
    }

    async fn publisher(&self, options: PublisherOptions) -> Result<Publisher> {
        self.link.check_open("publish")?;
        check_durability(options.min_durability)?;
        Ok(Publisher::new(Arc::clone(&self.link), options))
    }

    async fn subscribe(&self, spec: SubscribeSpec) -> Result<(Feed, Control)> {
        self.link.check_open("subscribe")?;
        self.link.named("subscribe", &spec.topics)?;
        let group = self.link.store.group_or_new(&spec.group);
        let bell = self.link.bell();
        let id = group.join(spec, Arc::clone(&bell), Instant::now())?;
        let membership = self.link.membership(group, id);
        let control = Control::new(Arc::clone(&membership));
        Ok((Feed::new(membership, bell), control))
    }

    async fn read(&self, spec: ReadSpec) -> Result<Reader> {
        self.link.check_open("read")?;
        self.link.named("read", &spec.topics)?;
        Reader::new(Arc::clone(&self.link), &spec)
    }

    fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.link))
    }

    async fn close(&self, _deadline: Duration) -> Result<()> {
        // Nothing is ever under way: a publish is stored when it is accepted.
        self.link.close();
        Ok(())
    }
}
