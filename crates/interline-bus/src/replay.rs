//! Reading again, without a group.

use std::collections::VecDeque;

use interline_core::{
    AnyReader, Budget, Codec, Envelope, Event, Partition, Pattern, Position, ReadSpec, Reader,
    Recorded, Result, Start, Timestamp, Transport, Until,
};

use crate::Bus;

/// A reading of topics from a place to a place, beside any live group: nothing is settled and
/// nobody is disturbed.
///
/// ```
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Tick(u8);
/// # impl interline_core::Event for Tick {
/// #     const TYPE: &'static str = "clock.tick";
/// #     const TOPIC: &'static str = "clock";
/// #     type Codec = interline_json::Json;
/// # }
/// # use interline_bus::Bus;
/// # use interline_core::Pattern;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> interline_core::Result<()> {
/// # let bus = Bus::new(interline_memory::connect("memory://").await?);
/// bus.publish_all([Tick(1), Tick(2)]).await?;
/// let mut replay = bus.replay(Pattern::new("clock")?).until_end().open().await?;
/// let mut ticks = Vec::new();
/// while let Some(record) = replay.next().await? {
///     ticks.push(record.decode::<Tick>()?.0);
/// }
/// ticks.sort();
/// assert_eq!(ticks, [1, 2]);
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Replay {
    bus: Bus,
    spec: ReadSpec,
}

impl Replay {
    pub(crate) fn new(bus: Bus, pattern: Pattern) -> Self {
        Self {
            bus,
            spec: ReadSpec {
                topics: vec![pattern],
                start: Start::Earliest,
                until: Until::Forever,
            },
        }
    }

    /// Starts at this place; without it at the earliest event.
    pub fn from(mut self, start: Start) -> Self {
        self.spec.start = start;
        self
    }

    /// Starts at the first event stored at this time or later.
    pub fn from_time(self, time: Timestamp) -> Self {
        self.from(Start::Time(time))
    }

    /// Ends behind the last event that is there when the reading opens.
    pub fn until_end(mut self) -> Self {
        self.spec.until = Until::End;
        self
    }

    /// Ends before the first event of a partition stored at this time or later.
    pub fn until_time(mut self, time: Timestamp) -> Self {
        self.spec.until = Until::Time(time);
        self
    }

    /// Opens the reading.
    ///
    /// # Errors
    /// [`NotFound`](interline_core::ErrorKind::NotFound) for a missing topic,
    /// [`PositionLost`](interline_core::ErrorKind::PositionLost) for a place outside a partition,
    /// [`Unsupported`](interline_core::ErrorKind::Unsupported) for a time where the transport has
    /// none.
    pub async fn open(self) -> Result<Records> {
        Ok(Records {
            reader: self.bus.transport().read(self.spec).await?,
            pending: VecDeque::new(),
        })
    }
}

/// Records of a reading, one by one.
#[derive(Debug)]
pub struct Records {
    reader: AnyReader,
    pending: VecDeque<(Partition, Recorded)>,
}

/// A record of a reading with its partition.
#[derive(Clone, Debug)]
pub struct Record {
    /// The partition.
    pub partition: Partition,
    /// The position in it.
    pub position: Position,
    /// When it was stored, by the store's clock.
    pub stored_at: Timestamp,
    /// The envelope.
    pub envelope: Envelope,
}

impl Record {
    /// Reads the payload as an event.
    ///
    /// # Errors
    /// [`Undecodable`](interline_core::ErrorKind::Undecodable) if it is none.
    pub fn decode<E: Event>(&self) -> Result<E> {
        let payload = self.envelope.payload().cloned().unwrap_or_default();
        E::Codec::default().decode(self.envelope.content_type(), &payload)
    }
}

impl Records {
    /// The next record, or `None` at the end of the reading. Records of a partition come in
    /// order; it waits through outages.
    ///
    /// # Errors
    /// When the reading can never go on: topic deleted, position lost, handle closed.
    ///
    /// # Cancellation
    /// A dropped call loses no record.
    pub async fn next(&mut self) -> Result<Option<Record>> {
        loop {
            if let Some((partition, recorded)) = self.pending.pop_front() {
                return Ok(Some(Record {
                    partition,
                    position: recorded.position,
                    stored_at: Timestamp::from_unix_millis(recorded.stored_at),
                    envelope: recorded.envelope,
                }));
            }
            let Some(batch) = self.reader.next(Budget::default()).await? else {
                return Ok(None);
            };
            let partition = batch.partition;
            let records = batch.records.into_iter();
            self.pending
                .extend(records.map(|record| (partition.clone(), record)));
        }
    }
}
