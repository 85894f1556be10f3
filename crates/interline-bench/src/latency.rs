//! How long publishing and delivery take at a fixed rate.
//!
//! Every event has a time at which it is meant to be sent, and everything counts from then: if the
//! sending itself is held up, all that should have been sent meanwhile is late, too.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hdrhistogram::Histogram;
use interline_bus::{Bus, Handled, State};
use interline_core::{
    AnyPublisher, AnyTransport, Envelope, EventId, Group, Outgoing, Publisher, PublisherOptions,
    Topic, Transport,
};
use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::Result;
use crate::clock::Machine;
use crate::measure::{Plan, Watch};
use crate::ours::PATIENCE;
use crate::report::{Row, Target};
use crate::sample::envelopes;

/// Events a second.
const RATE: usize = 10_000;

/// The first of them are not counted, and then as many for each second.
const WARM_UP: usize = RATE / 2;
const SECONDS: usize = 5;

const PAYLOAD: usize = 128;
const KEYS: usize = 1_000;

/// How many events are handed over at once, each as late as it is then. To wake up for each would
/// keep a third of a processor busy that client and server share.
const STEP: usize = 5;

/// What is measured at the fixed rate.
pub(crate) struct Paced {
    /// What is added to the URL.
    pub(crate) settings: &'static str,
    /// The rows of publishing and of delivery.
    pub(crate) paths: [&'static str; 2],
}

/// With the settings that every other row has.
pub(crate) const DEFAULTS: Paced = Paced {
    settings: "",
    paths: [
        "publish acknowledged at 10,000/s, p99 in us",
        "published to handled at 10,000/s, p99 in us",
    ],
};

/// The rows of publishing and of delivery.
pub(crate) async fn rows(
    (name, paths): (&'static str, [&'static str; 2]),
    transport: AnyTransport,
    machine: Machine,
    topic: &Topic,
    group: &Group,
    plan: Plan,
) -> Result<[Row; 2]> {
    let events = WARM_UP + (RATE * SECONDS / plan.divide).max(RATE / 10);
    let arrivals = Arc::new(Arrivals::of(events)?);
    let bus = Bus::new(transport.clone());
    let workers = bus
        .group(group)
        .topics(topic)
        .state(Arc::clone(&arrivals))
        .on_raw("*", handle)
        .start()
        .await?;
    let sender = Sender {
        publisher: transport.publisher(PublisherOptions::default()).await?,
        topic: topic.clone(),
        samples: envelopes(KEYS, PAYLOAD)?,
        begin: arrivals.begin,
    };
    // Once this one is handled the group reads.
    sender.send(Meant::default()).await?;
    timeout(PATIENCE, arrivals.first.notified()).await?;
    let watch = Watch::on(machine);
    let published = sender.run(events).await?;
    timeout(PATIENCE, arrivals.last.notified()).await?;
    let round = watch.stop(events);
    workers.drain(PATIENCE).await?.into_result()?;
    bus.close(PATIENCE).await?;
    let row =
        |path, waits, most| Row::paced((name, path, PAYLOAD), &round, waits, Target::Within(most));
    let [publish, deliver] = paths;
    Ok([
        row(publish, Waits::of(&published), 10e3),
        row(deliver, Waits::of(&arrivals.lock().waits), 100e3),
    ])
}

/// An event as it is meant to be sent.
#[derive(Clone, Copy, Debug, Default)]
struct Meant {
    /// 0 for one that is not part of the measurement.
    number: u64,
    /// When, in nanoseconds after the beginning.
    at: u64,
}

impl Meant {
    fn payload(self) -> Bytes {
        let mut payload = BytesMut::with_capacity(PAYLOAD);
        payload.put_u64(self.number);
        payload.put_u64(self.at);
        payload.resize(PAYLOAD, b'x');
        payload.freeze()
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let (number, rest) = payload.split_first_chunk()?;
        let (at, _) = rest.split_first_chunk()?;
        Some(Self {
            number: u64::from_be_bytes(*number),
            at: u64::from_be_bytes(*at),
        })
    }

    /// Notes that it is done now.
    fn done(self, begin: Instant, waits: &mut Histogram<u64>) {
        if self.number > WARM_UP as u64 {
            let wait = begin
                .elapsed()
                .saturating_sub(Duration::from_nanos(self.at));
            waits.saturating_record(nanos(wait).max(1));
        }
    }
}

/// Times in nanoseconds up to a minute, to three digits.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

/// Sends events when they are due.
struct Sender {
    publisher: AnyPublisher,
    topic: Topic,
    samples: Vec<Envelope>,
    begin: Instant,
}

impl Sender {
    async fn send(&self, meant: Meant) -> Result<Meant> {
        let sample = &self.samples[meant.number as usize % self.samples.len()];
        let envelope = sample.clone().with_id(EventId::new());
        let envelope = envelope.with_payload(Some(meant.payload()));
        let outgoing = Outgoing::new(self.topic.clone(), envelope);
        let outcomes = self.publisher.enqueue(vec![outgoing]).await?.await;
        outcomes
            .into_iter()
            .try_for_each(|outcome| outcome.into_result().map(drop))?;
        Ok(meant)
    }

    /// Sends all of them, and tells how long each took to be acknowledged.
    async fn run(&self, events: usize) -> Result<Histogram<u64>> {
        let (tell, mut due) = mpsc::unbounded_channel();
        let begin = self.begin;
        let pacing = thread::spawn(move || pace(begin, events, &tell));
        let (mut waits, mut open) = (histogram()?, FuturesUnordered::new());
        let mut is_over = false;
        while !(is_over && open.is_empty()) {
            tokio::select! {
                step = due.recv(), if !is_over => match step {
                    Some(step) => open.extend(step.into_iter().map(|meant| self.send(meant))),
                    None => is_over = true,
                },
                Some(sent) = open.next() => sent?.done(begin, &mut waits),
            }
        }
        pacing.join().map_err(|_| "the pace was lost")?;
        Ok(waits)
    }
}

/// Tells of events when the last of a step is due. A thread of its own: the timers of a runtime
/// tell milliseconds apart and no less.
fn pace(begin: Instant, events: usize, tell: &mpsc::UnboundedSender<Vec<Meant>>) {
    let first = begin.elapsed();
    let apart = Duration::from_secs(1) / RATE as u32;
    for start in (1..=events).step_by(STEP) {
        let last = (start + STEP - 1).min(events);
        let meant = |number: usize| Meant {
            number: number as u64,
            at: nanos(first + apart * number as u32),
        };
        thread::sleep((first + apart * last as u32).saturating_sub(begin.elapsed()));
        if tell.send((start..=last).map(meant).collect()).is_err() {
            return;
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What has arrived at the handler.
struct Arrivals {
    begin: Instant,
    first: Notify,
    last: Notify,
    state: Mutex<Arrived>,
}

struct Arrived {
    left: usize,
    waits: Histogram<u64>,
}

impl Arrivals {
    fn of(events: usize) -> Result<Self> {
        Ok(Self {
            begin: Instant::now(),
            first: Notify::new(),
            last: Notify::new(),
            state: Mutex::new(Arrived {
                left: events,
                waits: histogram()?,
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Arrived> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of a handler")]
fn handle(
    envelope: Envelope,
    State(arrivals): State<Arc<Arrivals>>,
) -> std::future::Ready<Handled> {
    let payload = envelope.payload().map_or(&[][..], |payload| payload);
    match Meant::read(payload) {
        Some(Meant { number: 0, .. }) | None => arrivals.first.notify_one(),
        Some(meant) => {
            let mut arrived = arrivals.lock();
            meant.done(arrivals.begin, &mut arrived.waits);
            arrived.left -= 1;
            if arrived.left == 0 {
                arrivals.last.notify_one();
            }
        }
    }
    std::future::ready(Ok(()))
}

/// Within how many microseconds which part of all events was done, and how they lie.
#[derive(Debug, Serialize)]
pub(crate) struct Waits {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// How many took up to how many microseconds, each step twice the one before.
    #[serde(skip)]
    steps: Vec<(u64, u64)>,
    /// Which part was done within how many microseconds, as far as there are events for it.
    #[serde(skip)]
    pub(crate) curve: Vec<(f64, f64)>,
}

impl Waits {
    pub(crate) fn of(waits: &Histogram<u64>) -> Self {
        let within = |part| waits.value_at_quantile(part) as f64 / 1e3;
        let steps = (4..26).map(|power| 1_u64 << power);
        let steps = steps.map(|to| {
            let from = if to == 16 { 0 } else { to * 500 };
            (to, waits.count_between(from, to * 1_000 - 1))
        });
        let steps: Vec<_> = steps.collect();
        let is_used = |step: &(u64, u64)| step.1 > 0;
        let first = steps.iter().position(is_used).unwrap_or(0);
        let last = steps.iter().rposition(is_used).unwrap_or(0);
        Self {
            p50: within(0.5),
            p99: within(0.99),
            p999: within(0.999),
            steps: steps[first..=last].to_vec(),
            curve: curve(waits),
        }
    }
}

/// Ten points for each nine, up to the slowest event.
fn curve(waits: &Histogram<u64>) -> Vec<(f64, f64)> {
    let slowest = 1.0 - 1.0 / waits.len().max(1) as f64;
    let parts = (0..).map(|point| 1.0 - 10_f64.powf(-f64::from(point) / 10.0));
    let parts = parts.take_while(|part| *part < slowest).chain([slowest]);
    let within = |part| waits.value_at_quantile(part) as f64 / 1e3;
    parts.map(|part| (part, within(part))).collect()
}

/// A plot for people.
impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p99, p999, .. } = self;
        writeln!(f, "p50 {p50:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} us")?;
        let most = self.steps.iter().map(|step| step.1).max().unwrap_or(1);
        for (to, count) in &self.steps {
            let width = (count * 50).div_ceil(most.max(1)) as usize;
            let bar = "#".repeat(width);
            writeln!(f, "  < {:>8.2} ms {count:>7} {bar}", *to as f64 / 1e3)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_tells_when_it_was_meant_to_be_sent() {
        let meant = Meant { number: 7, at: 99 };
        let read = Meant::read(&meant.payload()).unwrap();
        assert_eq!((read.number, read.at), (7, 99));
        assert!(Meant::read(b"short").is_none());
    }

    #[test]
    fn what_is_late_counts_from_when_it_was_meant() {
        let (begin, mut waits) = (Instant::now(), histogram().unwrap());
        let late = Duration::from_secs(30);
        let Some(begin) = begin.checked_sub(late) else {
            return;
        };
        let number = WARM_UP as u64;
        Meant { number, at: 0 }.done(begin, &mut waits);
        assert_eq!(waits.len(), 0, "that is warming up");
        Meant {
            number: number + 1,
            at: 0,
        }
        .done(begin, &mut waits);
        assert!(waits.max() >= 30_000_000_000);
    }

    #[test]
    fn the_plot_shows_every_event_once() {
        let mut waits = histogram().unwrap();
        for micros in [1, 20, 20, 40_000] {
            waits.record(micros * 1_000).unwrap();
        }
        let waits = Waits::of(&waits);
        assert_eq!(waits.steps.iter().map(|step| step.1).sum::<u64>(), 4);
        assert_eq!((waits.steps[0], waits.steps[1]), ((16, 1), (32, 2)));
        assert_eq!(waits.to_string().lines().count(), waits.steps.len() + 1);
        assert!(waits.curve.is_sorted(), "{:?}", waits.curve);
        assert_eq!(waits.curve.last().map(|(part, _)| *part), Some(0.75));
    }
}
