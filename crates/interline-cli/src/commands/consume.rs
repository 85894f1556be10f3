//! `interline consume`.

use std::time::Duration;

use clap::Args;
use futures_util::FutureExt as _;
use indicatif::ProgressBar;
use interline::json::cloudevents;
use interline::{
    Bus, Deliveries, Envelope, Group, Pattern, RawDelivery, Records, Retry, Timestamp, Topic,
};

use crate::args::{Connection, require_topic, topic_pattern};
use crate::interrupt::Interrupt;
use crate::output::Writer;
use crate::place::Place;
use crate::progress;
use crate::stop::{Exit, Stop};

/// How many events one flush of the output takes at most.
const BATCH: usize = 500;

/// Longer than any pipe blocks: an attempt ends with the output, not with a timeout.
const NO_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3_600);

/// How long what runs may take to end.
const DRAIN: Duration = Duration::from_secs(10);

/// Write events to stdout, one a line
///
/// Without --group it reads beside everybody else and settles nothing. With --group it is a member
/// of the group: an event is settled once the line with it is flushed, and what was not written
/// when the pipe closes goes to another member, or to the next start.
#[derive(Args, Debug)]
pub(crate) struct Consume {
    #[command(flatten)]
    connection: Connection,
    /// The topic, or a pattern such as `shop.**`
    #[arg(long, value_parser = topic_pattern)]
    topic: Pattern,
    /// Read as a member of this group
    #[arg(long)]
    group: Option<Group>,
    /// Where to start: earliest, latest, a time as 2018-04-05T17:31:00Z, or behind
    /// partition:position,..; for a group only if it is new
    #[arg(long, default_value = "earliest", value_name = "PLACE")]
    from: Place,
    /// Where to end: `end` as it stands now, or before a time; without a group
    #[arg(long, conflicts_with = "group", value_name = "PLACE")]
    until: Option<End>,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Write the data alone instead of CloudEvents
    #[arg(long)]
    data: bool,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Now,
    Time(Timestamp),
}

impl std::str::FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "end" => Ok(Self::Now),
            time => match time.parse() {
                Ok(time) => Ok(Self::Time(time)),
                Err(_) => Err("write end, or a time as 2018-04-05T17:31:00Z".to_owned()),
            },
        }
    }
}

pub(crate) async fn run(args: Consume, interrupt: &Interrupt) -> Result<Exit, Stop> {
    let bus = args.connection.open().await?;
    require_topic(bus.transport(), &args.topic).await?;
    let consuming = Consuming {
        writer: Writer::start(),
        bar: progress::bar("consumed", None),
        data: args.data,
        left: args.limit.unwrap_or(u64::MAX),
    };
    let ended = match &args.group {
        Some(group) => consuming.group(&bus, group, &args, interrupt).await,
        None => consuming.reader(&bus, &args, interrupt).await,
    };
    let closed = bus.close(DRAIN).await;
    let exit = ended?;
    closed?;
    Ok(exit)
}

struct Consuming {
    writer: Writer,
    bar: ProgressBar,
    data: bool,
    /// How many events may still be written.
    left: u64,
}

impl Consuming {
    async fn reader(
        mut self,
        bus: &Bus,
        args: &Consume,
        interrupt: &Interrupt,
    ) -> Result<Exit, Stop> {
        let start = args.from.start(exact(&args.topic).as_ref())?;
        let replay = bus.replay(args.topic.clone()).from(start);
        let replay = match args.until {
            Some(End::Now) => replay.until_end(),
            Some(End::Time(time)) => replay.until_time(time),
            None => replay,
        };
        let mut records = replay.open().await?;
        while self.left > 0 {
            let batch = tokio::select! {
                batch = gather_records(&mut records, self.most()) => batch?,
                () = interrupt.requested() => return Ok(Exit::Interrupted),
            };
            if batch.is_empty() {
                break;
            }
            tokio::select! {
                written = self.write(&batch) => written?,
                () = interrupt.requested() => return Ok(Exit::Interrupted),
            }
        }
        Ok(Exit::Done)
    }

    async fn group(
        mut self,
        bus: &Bus,
        group: &Group,
        args: &Consume,
        interrupt: &Interrupt,
    ) -> Result<Exit, Stop> {
        let start = args.from.start(exact(&args.topic).as_ref())?;
        let group = bus
            .group(group)
            .topics(args.topic.to_string())
            .start_at(start)
            // As many events are out at a time as one flush takes.
            .lanes(BATCH)
            .timeout(NO_TIMEOUT)
            // Only this command's own end fails an attempt: that never makes a dead letter.
            .retry(Retry::fixed(Duration::from_millis(100)).max(u32::MAX));
        let (mut workers, mut deliveries) = group.deliveries().await?;
        let ended = tokio::select! {
            ended = self.deliver(&mut deliveries) => ended.map(|()| Exit::Done),
            error = workers.failed() => Err(error.into()),
            () = interrupt.requested() => Ok(Exit::Interrupted),
        };
        // What was not flushed is let go unsettled; the checkpoint holds the rest.
        drop(deliveries);
        let drained = workers.drain(DRAIN).await;
        let exit = ended?;
        drained?.into_result()?;
        Ok(exit)
    }

    /// Writes and settles until the limit.
    async fn deliver(&mut self, deliveries: &mut Deliveries) -> Result<(), Stop> {
        while self.left > 0 {
            let batch = gather_deliveries(deliveries, self.most()).await;
            if batch.is_empty() {
                // The workers have ended; their error is told by them.
                return std::future::pending().await;
            }
            let events: Vec<Envelope> = batch.iter().map(|one| one.envelope().clone()).collect();
            self.write(&events).await?;
            batch.into_iter().for_each(RawDelivery::ack);
        }
        Ok(())
    }

    fn most(&self) -> usize {
        usize::try_from(self.left).map_or(BATCH, |left| left.min(BATCH))
    }

    /// Writes and flushes events as lines.
    async fn write(&mut self, events: &[Envelope]) -> Result<(), Stop> {
        let mut bytes = Vec::new();
        for event in events {
            match self.data {
                true => {
                    bytes.extend_from_slice(event.payload().map_or(&[], |data| &data[..]));
                    bytes.push(b'\n');
                }
                false => bytes.extend_from_slice(&cloudevents::to_line(event)?),
            }
        }
        self.writer.write(bytes).await?;
        let count = events.len() as u64;
        self.left -= count;
        self.bar.inc(count);
        Ok(())
    }
}

/// What is there, at least one record; empty at the end of the reading.
async fn gather_records(records: &mut Records, most: usize) -> Result<Vec<Envelope>, Stop> {
    let mut batch = Vec::new();
    let mut next = records.next().await?;
    while let Some(record) = next {
        batch.push(record.envelope);
        if batch.len() == most {
            break;
        }
        next = match records.next().now_or_never() {
            Some(next) => next?,
            None => None,
        };
    }
    Ok(batch)
}

/// What is there, at least one delivery; empty once the workers have ended.
async fn gather_deliveries(deliveries: &mut Deliveries, most: usize) -> Vec<RawDelivery> {
    let mut batch = Vec::new();
    let mut next = deliveries.next().await;
    while let Some(delivery) = next {
        batch.push(delivery);
        if batch.len() == most {
            break;
        }
        next = deliveries.next().now_or_never().flatten();
    }
    batch
}

/// The one topic of a pattern without stars.
fn exact(pattern: &Pattern) -> Option<Topic> {
    Topic::system(pattern.as_exact()?).ok()
}
