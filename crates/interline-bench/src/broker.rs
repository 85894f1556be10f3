//! The rows of a transport with a server: each of our paths beside the raw client.

use std::marker::PhantomData;
use std::time::Instant;

use interline_core::{Group, Topic};
use interline_transport::wire::Style;

use crate::clock::{Clock, Machine};
use crate::latency::Paced;
use crate::measure::{Plan, Round, Watch, alternate};
use crate::ours::Meter;
use crate::report::{Row, Target};
use crate::sample::Sample;
use crate::site::Site;
use crate::{Result, latency, ours};

const KEYS: usize = 10_000;

const PUBLISH: &str = "publish in batches";
const BARE: &str = "publish in batches, raw without attributes";
const WHOLE: &str = "publish in batches stored as a whole";
const CONSUME: &str = "consume with lanes and checkpoints";
const P50: &str = "one awaited publish, p50 in us";
const P99: &str = "one awaited publish, p99 in us";

/// The rows whose allocations are told, with what they are then called.
pub(crate) const ALLOCATING: [(&str, &str); 3] = [
    (PUBLISH, PUBLISH),
    (CONSUME, CONSUME),
    (P50, "one awaited publish"),
];

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
    /// With which settings the fixed rate is measured.
    const PACED: &[Paced] = &[latency::DEFAULTS];
    /// How it stores batches as a whole, if it can.
    const WHOLE: Option<Whole> = None;

    /// Publishes in batches by hand. Bare is without attributes and without dedupe.
    async fn publish(job: Job<'_>, is_bare: bool) -> Result<Round>;

    /// Publishes by hand in batches that are stored as a whole.
    async fn publish_whole(_job: Job<'_>) -> Result<Round> {
        Err(format!("{} stores no batches as a whole", Self::NAME).into())
    }

    /// Publishes one by one by hand, awaiting each.
    async fn awaited(job: Job<'_>) -> Result<Round>;

    /// Reads everything by hand, storing checkpoints for the group.
    async fn consume(job: Job<'_>, group: &Group) -> Result<Round>;

    /// The server that the environment names.
    fn site() -> Result<Site> {
        Self::site_with("")
    }

    /// The same with more settings on our side.
    fn site_with(settings: &str) -> Result<Site> {
        Site::server(Self::NAME, Self::PARTITIONS, settings)
    }
}

/// What a side has to do.
#[derive(Clone, Copy)]
pub(crate) struct Job<'j> {
    /// The server.
    pub(crate) url: &'j str,
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

    /// Sends one event after the other and times each. One more goes before them, so that all is
    /// connected.
    pub(crate) async fn one_by_one(
        &self,
        mut send: impl AsyncFnMut(&Sample) -> Result<()>,
    ) -> Result<Round> {
        send(self.samples.first().ok_or("no samples")?).await?;
        let mut waits = Vec::with_capacity(self.events);
        let watch = Watch::on(self.machine);
        for sample in self.source() {
            let began = Instant::now();
            send(sample).await?;
            waits.push(began.elapsed());
        }
        Ok(watch.stop(self.events).with_waits(waits))
    }

    /// A count of what is read.
    pub(crate) fn count(&self) -> Count<Machine> {
        Count::new(self.machine, self.events)
    }
}

/// Counts what a raw side reads and times what comes after the first tenth, as [`Meter::late`].
pub(crate) struct Count<C> {
    clock: C,
    events: usize,
    seen: usize,
    watch: Option<Watch<C>>,
}

impl<C: Clock + Clone> Count<C> {
    pub(crate) fn new(clock: C, events: usize) -> Self {
        Self {
            clock,
            events,
            seen: 0,
            watch: None,
        }
    }

    pub(crate) fn one(&mut self) {
        self.seen += 1;
        if self.seen == self.events / 10 {
            self.watch = Some(Watch::on(self.clock.clone()));
        }
    }

    /// Whether all were read.
    pub(crate) fn is_over(&self) -> bool {
        self.seen >= self.events
    }

    pub(crate) fn round(&self) -> Result<Round> {
        let watch = self.watch.as_ref().ok_or("too few events")?;
        Ok(watch.stop(self.events - self.events / 10))
    }
}

/// The most that processor time may be over raw, in microseconds.
pub(crate) struct Goals {
    pub(crate) publish_us: f64,
    pub(crate) consume_us: f64,
}

/// Publishing in batches that are stored as a whole.
pub(crate) struct Whole {
    /// Which settings have our side do so.
    pub(crate) settings: &'static str,
    /// How many events a round has, as in [`Events`].
    pub(crate) events: [usize; 2],
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
        if let Some(whole) = B::WHOLE.filter(|_| wants(&[WHOLE])) {
            let row = bench.publish_whole(&whole, &samples, whole.events[at], payload);
            add(&mut std::iter::once(row?));
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
    for paced in B::PACED.iter().filter(|paced| wants(&paced.paths)) {
        add(&mut bench.paced(paced)?.into_iter());
    }
    Ok(())
}

/// The server, and how much is measured at it.
struct Bench<B> {
    site: Site,
    plan: Plan,
    broker: PhantomData<B>,
}

impl<B: Broker> Bench<B> {
    fn new(plan: Plan) -> Result<Self> {
        Ok(Self {
            site: B::site()?,
            plan,
            broker: PhantomData,
        })
    }

    /// Both sides into one topic, so that its settings cannot differ.
    fn publish(&self, samples: &[Sample], events: usize, payload: usize) -> Result<[Row; 2]> {
        let site = &self.site;
        let [raw, ours, bare] = site.with_topic(|topic| {
            let job = site.job(topic, samples, events / self.plan.divide);
            alternate(
                self.plan,
                [
                    &mut || site.runtime.block_on(B::publish(job, false)),
                    &mut || site.run(|our| ours::publish(our, job)),
                    &mut || site.runtime.block_on(B::publish(job, true)),
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

    fn publish_whole(
        &self,
        whole: &Whole,
        samples: &[Sample],
        events: usize,
        payload: usize,
    ) -> Result<Row> {
        let site = B::site_with(whole.settings)?;
        let [raw, ours] = site.with_topic(|topic| {
            let job = site.job(topic, samples, events / self.plan.divide);
            alternate(
                self.plan,
                [
                    &mut || site.runtime.block_on(B::publish_whole(job)),
                    &mut || site.run(|our| ours::publish(our, job)),
                ],
            )
        })?;
        let target = Target::Beside {
            ratio: 0.90,
            cpu_us: B::GOALS.publish_us,
        };
        Ok(Row::beside((B::NAME, WHOLE, payload), &ours, &raw, target))
    }

    fn consume(&self, samples: &[Sample], events: usize, payload: usize) -> Result<Row> {
        let site = &self.site;
        let [raw, ours] = site.with_topic(|topic| {
            let job = site.job(topic, samples, events / self.plan.divide);
            // One event more is published, so that a round has all that it waits for.
            site.run(|our| ours::publish(our, job))?;
            let by_hand = |group: &Group| site.runtime.block_on(B::consume(job, group));
            let by_us = |group: &Group| {
                let meter = Meter::late(job.machine, job.events);
                site.run(|our| ours::consume(our, meter, topic, group))
            };
            alternate(
                self.plan,
                [&mut || site.with_group(by_hand), &mut || {
                    site.with_group(by_us)
                }],
            )
        })?;
        let target = Target::Beside {
            ratio: 0.95,
            cpu_us: B::GOALS.consume_us,
        };
        let name = (B::NAME, CONSUME, payload);
        Ok(Row::beside(name, &ours, &raw, target))
    }

    fn awaited(&self, samples: &[Sample], payload: usize) -> Result<[Row; 2]> {
        let site = &self.site;
        let events = (B::EVENTS.awaited / self.plan.divide).max(100);
        let [raw, ours] = site.with_topic(|topic| {
            let job = site.job(topic, samples, events);
            alternate(
                self.plan,
                [&mut || site.runtime.block_on(B::awaited(job)), &mut || {
                    site.run(|our| ours::awaited(our, job))
                }],
            )
        })?;
        let row = |path, percent, ratio| {
            let target = Target::Latency { ratio, cpu_us: 2.0 };
            Row::latency((B::NAME, path, payload), percent, &ours, &raw, target)
        };
        Ok([row(P50, 50, 1.10), row(P99, 99, 1.25)])
    }

    /// At a fixed rate.
    fn paced(&self, paced: &Paced) -> Result<[Row; 2]> {
        let site = &self.site;
        let name = (B::NAME, paced.paths);
        site.with_topic(|topic| {
            site.with_group(|group| {
                site.run_with(paced.settings, |our| {
                    latency::rows(name, our, site.machine, topic, group, self.plan)
                })
            })
        })
    }
}
