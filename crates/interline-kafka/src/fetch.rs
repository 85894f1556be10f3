//! Taking records out of the queues of partitions.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use interline_core::{Batch, Budget, Fence, Flow, Partition, Position, Recorded};
use interline_transport::wire::{Decoder, Origin, Style};
use rdkafka::error::RDKafkaErrorCode;

use crate::SCHEME;
use crate::ffi::{Buffer, Message, Messages, Native, Queue};
use crate::wake::{Bell, Wake};

/// The most messages taken at once, whatever the budget: the buffer of pointers stays small.
const MOST: usize = 4_096;

/// About how many bytes are copied at once, whatever the budget: what a core's own cache holds,
/// so that the copy is still there when it is read.
const SLAB: usize = 256 << 10;

/// The partitions that one thread reads, each from a queue of its own.
///
/// A stopped partition is simply not read. Pausing it in librdkafka would throw away what has
/// been fetched and survive a later assignment of the same partition.
pub(crate) struct Fetcher {
    consumer: Arc<dyn Native>,
    wake: Wake,
    sources: Vec<Source>,
    turn: usize,
    buffer: Buffer,
    slab: Slab,
    decoder: Decoder,
}

/// One partition that is read.
pub(crate) struct Source {
    pub(crate) partition: Partition,
    pub(crate) fence: Fence,
    queue: Queue,
    flow: Flow,
    /// The offset of the next record, as far as it is known.
    pub(crate) next: i64,
    /// When a record came, or the reading began.
    pub(crate) active: Instant,
    /// An error that came behind records, to be told after them.
    error: Option<(RDKafkaErrorCode, String)>,
    /// The end of the partition when it was last found silent.
    end: i64,
    /// The bytes of a record, on the average of the last batch.
    typical: usize,
}

/// What came out of a queue.
pub(crate) enum Fetched {
    Batch(Batch),
    /// The partition reported an error instead of records.
    Error {
        partition: Partition,
        code: RDKafkaErrorCode,
        text: String,
    },
}

impl Fetcher {
    pub(crate) fn new(consumer: Arc<dyn Native>, wake: Wake) -> Self {
        Self {
            consumer,
            wake,
            sources: Vec::new(),
            turn: 0,
            buffer: Buffer::default(),
            slab: Slab::default(),
            decoder: Decoder::new(Style::Underscore),
        }
    }

    /// Reads `partition` from `next` on. To be called before the consumer is told to fetch it.
    pub(crate) fn open(&mut self, partition: Partition, name: &str, fence: Fence, next: i64) {
        let known = self
            .sources
            .iter()
            .find(|source| source.partition == partition);
        let end = known.map_or(-1, |source| source.end);
        self.close(&partition);
        let bell = Arc::new(Bell::new(&self.wake));
        let index = i32::try_from(partition.index).unwrap_or(i32::MAX);
        let consumer = Arc::clone(&self.consumer);
        let Some(queue) = Queue::of_partition(consumer, name, index, bell) else {
            return;
        };
        self.sources.push(Source {
            partition,
            fence,
            queue,
            flow: Flow::Open,
            next,
            active: Instant::now(),
            error: None,
            end,
            typical: 1_024,
        });
    }

    pub(crate) fn close(&mut self, partition: &Partition) {
        self.sources.retain(|source| source.partition != *partition);
    }

    pub(crate) fn close_all(&mut self) {
        self.sources.clear();
    }

    pub(crate) fn flow(&mut self, partition: &Partition, fence: Fence, flow: Flow) {
        let mut sources = self.sources.iter_mut();
        let source = sources.find(|source| source.partition == *partition && source.fence == fence);
        if let Some(source) = source {
            source.flow = flow;
            source.active = Instant::now();
        }
    }

    /// Partitions that are open and have been silent since `before`.
    pub(crate) fn silent(&self, before: Instant) -> impl Iterator<Item = &Source> {
        self.sources
            .iter()
            .filter(move |source| source.flow == Flow::Open && source.active < before)
    }

    /// The offset at which the reading of a partition stands.
    pub(crate) fn next_of(&self, partition: &Partition) -> i64 {
        let mut sources = self.sources.iter();
        let source = sources.find(|source| source.partition == *partition);
        source.map_or(0, |source| source.next)
    }

    /// Remembers the end of a silent partition; whether it is another one than the last time.
    pub(crate) fn note_end(&mut self, partition: &Partition, end: i64) -> bool {
        let mut sources = self.sources.iter_mut();
        let source = sources.find(|source| source.partition == *partition);
        source.is_some_and(|source| std::mem::replace(&mut source.end, end) != end)
    }

    /// Looks at every queue again, in case a bell was not heard.
    pub(crate) fn ring_all(&self) {
        for source in &self.sources {
            source.queue.bell().again();
        }
    }

    /// Has every partition fall silent, as if the client had forgotten it.
    #[cfg(feature = "it")]
    pub(crate) fn stall(&self) {
        self.sources.iter().for_each(|source| source.queue.stall());
    }

    /// The next batch of any open partition, in turn, or nothing if all are empty.
    pub(crate) fn fetch(&mut self, budget: Budget) -> Option<Fetched> {
        let count = self.sources.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            let source = &mut self.sources[at];
            // A stopped partition keeps its bell rung, so that opening it finds what waits.
            if source.flow == Flow::Stopped || !source.queue.bell().take() {
                continue;
            }
            self.turn = at + 1;
            let fetched = source.take(budget, &mut self.buffer, &mut self.slab, &mut self.decoder);
            if fetched.is_some() {
                return fetched;
            }
        }
        None
    }
}

impl Source {
    fn take(
        &mut self,
        budget: Budget,
        buffer: &mut Buffer,
        slab: &mut Slab,
        decoder: &mut Decoder,
    ) -> Option<Fetched> {
        if let Some((code, text)) = self.error.take() {
            let partition = self.partition.clone();
            self.queue.bell().again();
            return Some(Fetched::Error {
                partition,
                code,
                text,
            });
        }
        let fits = budget.bytes.min(SLAB) / self.typical;
        let room = budget.events.min(fits).clamp(1, MOST);
        let messages = self.queue.receive(room, buffer);
        let is_full = messages.len() == room;
        self.error = messages.iter().find_map(|message| {
            let code = message.error()?;
            Some((code, message.error_text()))
        });
        if is_full || self.error.is_some() {
            self.queue.bell().again();
        }
        let records = slab.records(messages, &self.partition, decoder);
        let last = records.last()?;
        self.typical = (slab.size / records.len()).max(1);
        self.next = last.position.1.cast_signed() + 1;
        self.active = Instant::now();
        Some(Fetched::Batch(Batch {
            partition: self.partition.clone(),
            fence: self.fence,
            records: records.into(),
        }))
    }
}

/// Keys and payloads of a batch in one piece: a record costs slices instead of allocations, and
/// librdkafka gets its own buffers back at once. Headers are read where they are, since most of
/// them become fields and are not kept.
#[derive(Default)]
struct Slab {
    places: Vec<Place>,
    /// The bytes of the last batch.
    size: usize,
}

struct Place {
    key: Option<Range<usize>>,
    payload: Option<Range<usize>>,
}

impl Slab {
    fn records(
        &mut self,
        messages: Messages<'_>,
        partition: &Partition,
        decoder: &mut Decoder,
    ) -> Vec<Recorded> {
        let bytes = self.copy(&messages);
        let slice = |range: Range<usize>| bytes.slice(range);
        let mut records = Vec::with_capacity(self.places.len());
        let mut places = self.places.drain(..);
        messages.for_each(|message| {
            if message.error().is_some() {
                return;
            }
            let Some(place) = places.next() else { return };
            let position = Position::from(message.offset().cast_unsigned());
            let origin = Origin {
                scheme: SCHEME,
                topic: &partition.topic,
                partition: partition.index,
                position,
            };
            let (key, payload) = (place.key.map(slice), place.payload.map(slice));
            records.push(Recorded {
                position,
                stored_at: message.timestamp(),
                envelope: decoder.decode(&origin, &bytes, message.headers(), key, payload),
            });
        });
        records
    }

    /// The bytes of all keys and payloads; where each is stays in `places`.
    fn copy(&mut self, messages: &Messages<'_>) -> Bytes {
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        self.size = events(messages)
            .map(|m| length(m.key()) + length(m.payload()))
            .sum();
        let mut bytes = Vec::with_capacity(self.size);
        self.places.clear();
        for message in events(messages) {
            let mut put = |part: &[u8]| {
                let start = bytes.len();
                bytes.extend_from_slice(part);
                start..bytes.len()
            };
            self.places.push(Place {
                key: message.key().map(&mut put),
                payload: message.payload().map(&mut put),
            });
        }
        Bytes::from(bytes)
    }
}

/// The messages of a batch that are no errors.
fn events<'m>(messages: &'m Messages<'_>) -> impl Iterator<Item = Message<'m>> {
    messages.iter().filter(|message| message.error().is_none())
}
