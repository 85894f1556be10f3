//! The rows of a transport with a server: each of our paths beside the raw client.

use interline_core::{Group, Topic};
use interline_transport::wire::Style;

use crate::clock::Machine;
use crate::measure::{Plan, Round, alternate};
use crate::ours::Meter;
use crate::report::{Row, Target};
use crate::sample::Sample;
use crate::site::Site;
use crate::{Result, latency, ours};

const KEYS: usize = 10_000;

const PUBLISH: &str = "publish in batches";
const BARE: &str = "publish in batches, raw without attributes";
const CONSUME: &str = "consume with lanes and checkpoints";
const P50: &str = "one awaited publish, p50 in us";
const P99: &str = "one awaited publish, p99 in us";

/// A transport, and its raw client as somebody who knows it well uses it by hand.
pub(crate) trait Broker: Sized {
    /// Its name, which is that of its server too.
    const NAME: &'static str;
    /// How it writes attributes.
    const STYLE: Style;
    /// Partitions of a topic.
    const PARTITIONS: u32;
    /// What design and measurement ask for.
    const GOALS: Goals;
    /// How much is sent.
    const EVENTS: Events;

    /// The server at `url`.
    async fn new(url: &str) -> Result<Self>;

    /// Publishes in batches by hand. Bare is without attributes and without dedupe.
    async fn publish(&self, job: Job<'_>, is_bare: bool) -> Result<Round>;

    /// Publishes one by one by hand, awaiting each.
    async fn awaited(&self, job: Job<'_>) -> Result<Round>;

    /// Reads everything by hand, storing checkpoints for the group.
    async fn consume(&self, job: Job<'_>, group: &Group) -> Result<Round>;

    /// The server that the environment names.
    fn site() -> Result<Site> {
        Site::server(Self::NAME, Self::PARTITIONS)
    }
}

/// What a raw side has to do.
#[derive(Clone, Copy)]
pub(crate) struct Job<'j> {
    pub(crate) machine: Machine,
    /// It is there, with its partitions.
    pub(crate) topic: &'j Topic,
    pub(crate) samples: &'j [Sample],
    pub(crate) events: usize,
}

impl Job<'_> {
    /// Events in order, each with a number.
    pub(crate) fn source(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().cycle().take(self.events)
    }
}

/// The most that processor time may be over raw, in microseconds.
pub(crate) struct Goals {
    pub(crate) publish_us: f64,
    pub(crate) consume_us: f64,
}

/// How many events a round has, for payloads of 128 bytes and of 1 KiB.
pub(crate) struct Events {
    pub(crate) published: [usize; 2],
    pub(crate) consumed: [usize; 2],
    pub(crate) awaited: usize,
}

/// Measures the rows whose path contains `path`, and shows each at once.
pub(crate) fn rows<B: Broker>(plan: Plan, path: &str, rows: &mut Vec<Row>) -> Result<()> {
    let wants = |names: &[&str]| names.iter().any(|name| name.contains(path));
    let mut add = |measured: &mut dyn Iterator<Item = Row>| {
        for row in measured.filter(|row| row.path.contains(path)) {
            row.print();
            rows.push(row);
        }
    };
    let bench = Bench::<B>::new(plan)?;
    for (at, payload) in [128, 1_024].into_iter().enumerate() {
        let samples = Sample::all(B::STYLE, KEYS, payload)?;
        if wants(&[PUBLISH, BARE]) {
            let events = B::EVENTS.published[at];
            add(&mut bench.publish(&samples, events, payload)?.into_iter());
        }
        if wants(&[CONSUME]) {
            let events = B::EVENTS.consumed[at];
            add(&mut std::iter::once(
                bench.consume(&samples, events, payload)?,
            ));
        }
        if wants(&[P50, P99]) {
            add(&mut bench.awaited(&samples, payload)?.into_iter());
        }
    }
    if wants(&latency::PATHS) {
        add(&mut bench.paced()?.into_iter());
    }
    Ok(())
}

/// The server, and what is needed to measure at it.
struct Bench<B> {
    site: Site,
    broker: B,
    plan: Plan,
}

impl<B: Broker> Bench<B> {
    fn new(plan: Plan) -> Result<Self> {
        let site = B::site()?;
        Ok(Self {
            broker: site.runtime.block_on(B::new(&site.url))?,
            site,
            plan,
        })
    }

    /// Both sides into one topic, so that its settings cannot differ.
    fn publish(&self, samples: &[Sample], events: usize, payload: usize) -> Result<[Row; 2]> {
        let (machine, events) = (self.site.machine, events / self.plan.divide);
        let [raw, ours, bare] = self.site.with_topic(|topic| {
            let job = Job {
                machine,
                topic,
                samples,
                events,
            };
            alternate(
                self.plan,
                [
                    &mut || self.site.runtime.block_on(self.broker.publish(job, false)),
                    &mut || {
                        self.site
                            .run(|our| ours::publish(our, machine, topic, samples, events))
                    },
                    &mut || self.site.runtime.block_on(self.broker.publish(job, true)),
                ],
            )
        })?;
        let target = Target::Beside {
            ratio: 0.95,
            cpu_us: B::GOALS.publish_us,
        };
        Ok([
            Row::beside((B::NAME, PUBLISH, payload), &ours, &raw, target),
            Row::beside((B::NAME, BARE, payload), &ours, &bare, Target::None),
        ])
    }

    fn consume(&self, samples: &[Sample], events: usize, payload: usize) -> Result<Row> {
        let (machine, events) = (self.site.machine, events / self.plan.divide);
        let [raw, ours] = self.site.with_topic(|topic| {
            let job = Job {
                machine,
                topic,
                samples,
                events,
            };
            // One event more is published, so that a round has all that it waits for.
            self.site
                .run(|our| ours::publish(our, machine, topic, samples, events))?;
            alternate(
                self.plan,
                [
                    &mut || {
                        self.site.with_group(|group| {
                            self.site.runtime.block_on(self.broker.consume(job, group))
                        })
                    },
                    &mut || {
                        self.site.with_group(|group| {
                            self.site.run(|our| {
                                ours::consume(our, Meter::late(machine, events), topic, group)
                            })
                        })
                    },
                ],
            )
        })?;
        let target = Target::Beside {
            ratio: 0.95,
            cpu_us: B::GOALS.consume_us,
        };
        Ok(Row::beside(
            (B::NAME, CONSUME, payload),
            &ours,
            &raw,
            target,
        ))
    }

    fn awaited(&self, samples: &[Sample], payload: usize) -> Result<[Row; 2]> {
        let machine = self.site.machine;
        let events = (B::EVENTS.awaited / self.plan.divide).max(100);
        let [raw, ours] = self.site.with_topic(|topic| {
            let job = Job {
                machine,
                topic,
                samples,
                events,
            };
            alternate(
                self.plan,
                [
                    &mut || self.site.runtime.block_on(self.broker.awaited(job)),
                    &mut || {
                        self.site
                            .run(|our| ours::awaited(our, machine, topic, samples, events))
                    },
                ],
            )
        })?;
        let row = |path, percent, ratio| {
            let target = Target::Latency { ratio, cpu_us: 2.0 };
            Row::latency((B::NAME, path, payload), percent, &ours, &raw, target)
        };
        Ok([row(P50, 50, 1.10), row(P99, 99, 1.25)])
    }

    /// At a fixed rate.
    fn paced(&self) -> Result<[Row; 2]> {
        self.site.with_topic(|topic| {
            self.site.with_group(|group| {
                let machine = self.site.machine;
                self.site
                    .run(|our| latency::rows(B::NAME, our, machine, topic, group, self.plan))
            })
        })
    }
}
