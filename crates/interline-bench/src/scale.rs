//! Whether an event costs the same however much there is: of backlog, lanes, handlers, keys and
//! headers.

use std::sync::Arc;

use bytes::Bytes;
use interline_bus::{GroupBuilder, Handled, State};
use interline_core::{Envelope, EventId, HeaderName, Kind};
use interline_transport::wire::Style;

use crate::Result;
use crate::measure::{Plan, Round, Side, alternate, one_core};
use crate::memory::{Count, at_once, engine};
use crate::ours::{self, Meter};
use crate::sample::{Sample, envelopes};
use crate::series::{Point, Series};
use crate::site::Site;

/// Rounds of each size: there are many sizes.
const ROUNDS: usize = 3;

const BACKLOGS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const HUGE: usize = 10_000_000;

/// Events of a round where it is not they that grow.
const EVENTS: usize = 500_000;

const PAYLOAD: usize = 128;
const KEYS: usize = 10_000;

/// How much of it there is at the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) plan: Plan,
    pub(crate) huge: bool,
}

impl Size {
    fn rounds(self) -> usize {
        self.plan.rounds.min(ROUNDS)
    }

    /// The largest backlog.
    pub(crate) fn most(self) -> usize {
        self.backlogs().into_iter().max().unwrap_or_default()
    }

    fn backlogs(self) -> Vec<usize> {
        let sizes = BACKLOGS.into_iter().chain(self.huge.then_some(HUGE));
        sizes
            .map(|size| (size / self.plan.divide).max(20))
            .collect()
    }
}

/// What a topic holds: publishing until it does, and handling all of it.
pub(crate) fn backlog(site: &Site, size: Size, add: &mut dyn FnMut(Series)) -> Result<()> {
    let samples = Sample::all(Style::Dash, KEYS, PAYLOAD)?;
    let start = read(site, &samples, 1, size)?;
    let (mut published, mut handled) = (Vec::new(), Vec::new());
    for backlog in size.backlogs() {
        let both = read(site, &samples, backlog, size)?;
        published.push(Point::of(backlog, &both.published));
        handled.push(Point::of(backlog, &both.handled));
    }
    add(Series::new(
        site.name,
        "backlog, while it is published",
        published,
    ));
    add(Series::new(site.name, "backlog, while it is handled", handled).after(&start.handled));
    Ok(())
}

struct Backlog {
    published: Vec<Round>,
    handled: Vec<Round>,
}

fn read(site: &Site, samples: &[Sample], events: usize, size: Size) -> Result<Backlog> {
    site.with_topic(|topic| {
        // With the one that a publisher begins with there is one more than is waited for.
        let job = site.job(topic, samples, events);
        let published = site.run(|our| ours::publish(our, job))?;
        let round = |_| {
            site.with_group(|group| {
                let meter = Meter::whole(job.machine, events);
                site.run(|our| ours::consume(our, meter, topic, group))
            })
        };
        Ok(Backlog {
            published: vec![published],
            handled: (0..size.rounds()).map(round).collect::<Result<_>>()?,
        })
    })
}

/// What does not depend on a server.
pub(crate) fn in_memory(size: Size, add: &mut dyn FnMut(Series)) -> Result<()> {
    for grows in [lanes, handlers, keys, headers] {
        add(grows(size)?);
    }
    Ok(())
}

/// Handlers that wait once, so that each takes a lane.
fn lanes(size: Size) -> Result<Series> {
    let prebuilt = envelopes(KEYS, PAYLOAD)?;
    series("lanes", [1, 4, 16, 64], size, |lanes, events| {
        run(&prebuilt, events, |group| {
            group
                .lanes(lanes)
                .on_raw("*", async |State(count): State<Count>| {
                    tokio::task::yield_now().await;
                    count.one();
                    Handled::Ok(())
                })
        })
    })
}

/// As many types, each with a handler of its own.
fn handlers(size: Size) -> Result<Series> {
    series("handlers", [1, 10, 100, 1_000], size, |handlers, events| {
        let kind = |number| Kind::new("/bench", format!("bench.raw.sent-{number}")).map(Arc::new);
        let kinds = (0..handlers)
            .map(kind)
            .collect::<interline_core::Result<Vec<_>>>()?;
        let prebuilt = envelopes(KEYS, PAYLOAD)?
            .into_iter()
            .zip(kinds.iter().cycle());
        let of_kind = |(envelope, kind): (Envelope, &Arc<Kind>)| {
            let (key, payload) = (envelope.key().cloned(), envelope.payload().cloned());
            Envelope::from_parts(
                EventId::new(),
                Arc::clone(kind),
                envelope.time(),
                key,
                payload,
            )
        };
        let prebuilt: Vec<Envelope> = prebuilt.map(of_kind).collect();
        run(&prebuilt, events, |group| {
            kinds.iter().fold(group, |group, kind| {
                group.on_raw(kind.ty(), |State(count): State<Count>| {
                    count.one();
                    std::future::ready(Handled::Ok(()))
                })
            })
        })
    })
}

fn keys(size: Size) -> Result<Series> {
    series(
        "keys",
        [10, 1_000, 10_000, 100_000],
        size,
        |keys, events| run(&envelopes(keys, PAYLOAD)?, events, at_once),
    )
}

fn headers(size: Size) -> Result<Series> {
    series("headers", [0, 3, 10], size, |headers, events| {
        let mut prebuilt = envelopes(KEYS, PAYLOAD)?;
        for envelope in &mut prebuilt {
            for number in 0..headers {
                let name = HeaderName::new(format!("x-header-{number}"))?;
                envelope
                    .headers_mut()
                    .push(name, Bytes::from_static(b"some value"));
            }
        }
        run(&prebuilt, events, at_once)
    })
}

fn run(
    prebuilt: &[Envelope],
    events: usize,
    handlers: impl FnOnce(GroupBuilder) -> GroupBuilder,
) -> Result<Round> {
    one_core()?.block_on(engine(prebuilt, events, handlers))
}

/// Runs all sizes in turn.
fn series<const N: usize>(
    what: &'static str,
    sizes: [usize; N],
    size: Size,
    round: impl Fn(usize, usize) -> Result<Round>,
) -> Result<Series> {
    let events = EVENTS / size.plan.divide;
    let mut sides = sizes.map(|size| {
        let round = &round;
        move || round(size, events)
    });
    let plan = Plan {
        rounds: size.rounds(),
        ..size.plan
    };
    let rounds = alternate(plan, sides.each_mut().map(|side| side as Side<'_>))?;
    let points = sizes.iter().zip(&rounds);
    let points = points.map(|(size, rounds)| Point::of(*size, rounds));
    Ok(Series::new(
        interline_memory::SCHEME,
        what,
        points.collect(),
    ))
}
