//! Where is measured: a transport with topics and groups that nobody else uses.

use std::time::{Duration, Instant};

use interline_core::{
    Admin, AnyTransport, Error, ErrorKind, EventId, Group, Topic, TopicSpec, Transport as _,
};
use tokio::runtime::Runtime;

use crate::Result;
use crate::broker::Job;
use crate::clock::{Machine, Server};
use crate::measure::one_core;
use crate::ours::PATIENCE;
use crate::sample::Sample;

/// How often a server is asked again for what it cannot do yet.
const AGAIN: Duration = Duration::from_millis(50);

pub(crate) struct Site {
    pub(crate) name: &'static str,
    url: String,
    /// The same with the settings of our side.
    ours: String,
    pub(crate) machine: Machine,
    pub(crate) runtime: Runtime,
    /// Of every topic.
    partitions: u32,
    transport: AnyTransport,
}

impl Site {
    /// The server that the environment names, with `settings` of our side.
    pub(crate) fn server(name: &'static str, partitions: u32, settings: &str) -> Result<Self> {
        let variable = |word| format!("INTERLINE_{}_{word}", name.to_uppercase());
        let url = std::env::var(variable("URL")).map_err(|_| {
            let url = variable("URL");
            format!("{url} names no server: `cargo xtask bench {name}` starts one")
        })?;
        let server = std::env::var(variable("PID")).ok();
        let server = server.and_then(|pid| pid.parse().ok());
        let machine = Machine(server.map_or(Server::Elsewhere, Server::Process));
        Self::at(name, url, settings, machine, partitions)
    }

    /// The memory of this process, with room for `events` that nobody has read.
    pub(crate) fn memory(events: usize) -> Result<Self> {
        let (name, bytes) = (fresh("bench"), u64::MAX >> 1);
        let url = format!(
            "memory://{name}?capacity={events}&capacity_bytes={bytes}&history={events}&history_bytes={bytes}"
        );
        Self::at(interline_memory::SCHEME, url, "", Machine::default(), 12)
    }

    fn at(
        name: &'static str,
        url: String,
        settings: &str,
        machine: Machine,
        partitions: u32,
    ) -> Result<Self> {
        let runtime = one_core()?;
        let ours = with(&url, settings);
        Ok(Self {
            transport: runtime.block_on(connect(&ours))?,
            name,
            url,
            ours,
            machine,
            runtime,
            partitions,
        })
    }

    /// What a side has to do here.
    pub(crate) fn job<'j>(
        &'j self,
        topic: &'j Topic,
        samples: &'j [Sample],
        events: usize,
    ) -> Job<'j> {
        Job {
            url: &self.url,
            machine: self.machine,
            topic,
            samples,
            events,
        }
    }

    /// Runs `measure` with a topic of its own.
    pub(crate) fn with_topic<T>(&self, measure: impl FnOnce(&Topic) -> Result<T>) -> Result<T> {
        let topic = Topic::new(fresh("bench"))?;
        let admin = self.transport.admin();
        let spec = TopicSpec::new(topic.clone()).partitions(self.partitions);
        self.runtime.block_on(admin.ensure(vec![spec]))?;
        let measured = measure(&topic);
        // A server whose disk is busy with what was measured may take long.
        let delete = patiently(Error::is_transient, || admin.delete_topic(&topic));
        let deleted = self.runtime.block_on(delete);
        let measured = measured?;
        deleted?;
        Ok(measured)
    }

    /// Runs `measure` with a group of its own.
    pub(crate) fn with_group<T>(&self, measure: impl FnOnce(&Group) -> Result<T>) -> Result<T> {
        let group = Group::new(fresh("bench"))?;
        let measured = measure(&group)?;
        let admin = self.transport.admin();
        // A consumer that was dropped may still be on its way out of its group.
        let is_live = |error: &Error| error.kind() == ErrorKind::Invalid;
        let delete = patiently(is_live, || admin.delete_group(&group));
        self.runtime.block_on(delete)?;
        Ok(measured)
    }

    /// Runs `round` on a transport that was just connected.
    pub(crate) fn run<T, F: Future<Output = Result<T>>>(
        &self,
        round: impl FnOnce(AnyTransport) -> F,
    ) -> Result<T> {
        self.run_with("", round)
    }

    /// The same with more settings.
    pub(crate) fn run_with<T, F: Future<Output = Result<T>>>(
        &self,
        settings: &str,
        round: impl FnOnce(AnyTransport) -> F,
    ) -> Result<T> {
        let url = with(&self.ours, settings);
        self.runtime
            .block_on(async { round(connect(&url).await?).await })
    }
}

/// A URL with more settings.
fn with(url: &str, settings: &str) -> String {
    match settings {
        "" => url.to_owned(),
        _ if url.contains('?') => format!("{url}&{settings}"),
        _ => format!("{url}?{settings}"),
    }
}

/// Asks a server again as long as it cannot do it `yet`.
async fn patiently<F: Future<Output = interline_core::Result<()>>>(
    yet: impl Fn(&Error) -> bool,
    mut ask: impl FnMut() -> F,
) -> interline_core::Result<()> {
    let began = Instant::now();
    loop {
        match ask().await {
            Err(error) if yet(&error) && began.elapsed() < PATIENCE => {
                tokio::time::sleep(AGAIN).await;
            }
            answer => return answer,
        }
    }
}

/// A name that nobody else uses.
pub(crate) fn fresh(name: &str) -> String {
    format!("{name}-{}", EventId::new())
}

/// A transport by its URL. The facade knows how, too, but its features would then be on in
/// everything that is built together with this program.
pub(crate) async fn connect(url: &str) -> interline_core::Result<AnyTransport> {
    Ok(match url.split("://").next() {
        Some(interline_kafka::SCHEME) => AnyTransport::new(interline_kafka::connect(url).await?),
        Some(interline_redis::SCHEME) => AnyTransport::new(interline_redis::connect(url).await?),
        Some(interline_nats::SCHEME) => AnyTransport::new(interline_nats::connect(url).await?),
        Some(interline_postgres::SCHEME) => {
            AnyTransport::new(interline_postgres::connect(url).await?)
        }
        _ => AnyTransport::new(interline_memory::connect(url).await?),
    })
}
