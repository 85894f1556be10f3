//! Lists of events behind one lock. It has one member per group and forgets with the process.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use interline_core::{
    Batch, Budget, Capabilities, Checkpoint, Durability, Error, ErrorKind, EventId, Fence, Flow,
    Group, LagAccuracy, Outcome, Outgoing, Partition, Pattern, Position, Progress, Publisher,
    PublisherOptions, PublisherStats, ReadSpec, Receipt, Recorded, Result, Start, State,
    SubscribeSpec, Timestamp, Topic, Transport, Until, check_start, limits,
};
use tokio::sync::watch;

use super::member::{Member, ToyControl, ToyFeed};
use super::reader::ToyReader;

const CAPABILITIES: Capabilities = {
    let mut capabilities = Capabilities::new("toy");
    capabilities.manage_topics = true;
    capabilities.lag = LagAccuracy::Exact;
    capabilities
};

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    data: Mutex<Data>,
    pub(crate) changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Data {
    pub(crate) topics: BTreeMap<Topic, Vec<Vec<Recorded>>>,
    pub(crate) groups: BTreeMap<Group, Members>,
    fences: Fence,
}

/// A group: what it has stored, and the one member that it may have.
#[derive(Debug, Default)]
pub(crate) struct Members {
    pub(crate) progress: BTreeMap<Partition, Progress>,
    pub(crate) member: Option<u64>,
    pub(crate) owned: BTreeMap<Partition, Owned>,
    pub(crate) leaving: bool,
}

#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) fence: Fence,
    next: usize,
    pub(crate) flow: Flow,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            data: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

pub(crate) fn error(kind: ErrorKind, operation: &'static str, message: &'static str) -> Error {
    Error::new(kind, operation, message)
        .on("toy")
        .remedy("see its README")
}

pub(crate) fn index(position: Position) -> usize {
    usize::try_from(position.1).unwrap_or(usize::MAX)
}

impl Data {
    fn topic(&mut self, topic: &Topic) -> &mut Vec<Vec<Recorded>> {
        self.topics
            .entry(topic.clone())
            .or_insert_with(|| vec![Vec::new(); 4])
    }

    pub(crate) fn partition(&self, partition: &Partition) -> Result<&Vec<Recorded>> {
        let logs = self.topics.get(&partition.topic);
        let log = logs.and_then(|logs| logs.get(partition.index as usize));
        log.ok_or_else(|| error(ErrorKind::NotFound, "read", "there is no such topic"))
    }

    /// Where each partition of a topic is read from without a checkpoint.
    pub(crate) fn places(&self, topic: &Topic, start: &Start) -> Result<Vec<(Partition, usize)>> {
        check_start(start, &CAPABILITIES)?;
        let logs = self.topics.get(topic).map_or(&[][..], Vec::as_slice);
        let place = |(number, log): (u32, &Vec<Recorded>)| {
            let partition = Partition::new(topic.clone(), number);
            let next = match start {
                Start::Latest => log.len(),
                Start::At(places) => match places.iter().find(|(at, _)| *at == partition) {
                    Some((_, at)) if index(*at) >= log.len() => {
                        return Err(error(ErrorKind::PositionLost, "read", "it is past the end"));
                    }
                    Some((_, at)) => index(*at) + 1,
                    None => 0,
                },
                _ => 0,
            };
            Ok((partition, next))
        };
        (0..).zip(logs).map(place).collect()
    }

    /// Gives the member what it reads and does not own yet.
    pub(crate) fn assign(
        &mut self,
        spec: &SubscribeSpec,
        start: &Start,
    ) -> Result<Vec<Checkpoint>> {
        let topics: Vec<_> = self
            .topics
            .keys()
            .filter(|t| spec.covers(t))
            .cloned()
            .collect();
        let mut assigned = Vec::new();
        for topic in topics {
            for (partition, next) in self.places(&topic, start)? {
                let group = self.groups.entry(spec.group.clone()).or_default();
                if group.leaving || group.owned.contains_key(&partition) {
                    continue;
                }
                let fresh = || Progress {
                    frontier: next.checked_sub(1).map(|at| Position::from(at as u64)),
                    ..Progress::default()
                };
                let progress = group
                    .progress
                    .entry(partition.clone())
                    .or_insert_with(fresh);
                let next = progress.frontier.map_or(0, |at| index(at) + 1);
                self.fences += 1;
                let owned = Owned {
                    fence: self.fences,
                    next,
                    flow: Flow::Open,
                };
                let progress = progress.clone();
                group.owned.insert(partition.clone(), owned);
                assigned.push(Checkpoint {
                    partition,
                    fence: self.fences,
                    progress,
                });
            }
        }
        Ok(assigned)
    }

    pub(crate) fn batch(&mut self, group: &Group, budget: Budget) -> Result<Option<Batch>> {
        let owned = self
            .groups
            .get(group)
            .into_iter()
            .flat_map(|group| &group.owned);
        for (partition, owned) in owned.filter(|(_, owned)| owned.flow == Flow::Open) {
            let records = cut(self.partition(partition)?, owned.next, usize::MAX, budget);
            let (partition, fence) = (partition.clone(), owned.fence);
            if records.is_empty() {
                continue;
            }
            let read = self
                .groups
                .get_mut(group)
                .and_then(|g| g.owned.get_mut(&partition));
            if let Some(owned) = read {
                owned.next += records.len();
            }
            return Ok(Some(Batch {
                partition,
                fence,
                records: records.into(),
            }));
        }
        Ok(None)
    }
}

/// Records from `from` before `until`, as far as the budget goes, and at least one.
pub(crate) fn cut(log: &[Recorded], from: usize, until: usize, budget: Budget) -> Vec<Recorded> {
    let mut bytes = 0;
    let fits = |(at, record): &(usize, &Recorded)| {
        bytes += record.envelope.size();
        *at == 0 || (*at < budget.events && bytes <= budget.bytes)
    };
    let rest = log.get(from..until.min(log.len())).unwrap_or(&[]);
    rest.iter()
        .enumerate()
        .take_while(fits)
        .map(|(_, record)| record.clone())
        .collect()
}

/// A connection; publisher and administration are the connection itself.
#[derive(Clone, Debug)]
pub(crate) struct Toy {
    pub(crate) shared: Arc<Shared>,
    stats: Arc<Mutex<PublisherStats>>,
    closed: Arc<watch::Sender<bool>>,
}

impl Toy {
    pub(crate) fn connect(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            stats: Arc::default(),
            closed: Arc::new(watch::Sender::new(false)),
        }
    }

    pub(crate) fn open(&self, operation: &'static str) -> Result<()> {
        if *self.closed.borrow() {
            Err(Error::closed(operation).on("toy"))
        } else {
            Ok(())
        }
    }
}

impl Transport for Toy {
    type Publisher = Self;
    type Feed = ToyFeed;
    type Control = ToyControl;
    type Reader = ToyReader;
    type Admin = Self;

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn state(&self) -> State {
        State::Connected
    }

    async fn publisher(&self, _: PublisherOptions) -> Result<Self> {
        self.open("publish")?;
        Ok(Self {
            stats: Arc::default(),
            ..self.clone()
        })
    }

    async fn subscribe(&self, spec: SubscribeSpec) -> Result<(ToyFeed, ToyControl)> {
        self.open("subscribe")?;
        let mut data = self.shared.lock();
        for name in spec.topics.iter().filter_map(Pattern::as_exact) {
            data.topic(&Topic::system(name)?);
            data.places(&Topic::system(name)?, &spec.start)?;
        }
        data.fences += 1;
        let id = data.fences;
        data.groups.entry(spec.group.clone()).or_default();
        let member = Arc::new(Member::new(self.clone(), spec.group.clone(), id));
        Ok((ToyFeed::new(&member, spec), ToyControl { member }))
    }

    async fn read(&self, spec: ReadSpec) -> Result<ToyReader> {
        self.open("read")?;
        let data = self.shared.lock();
        let wanted = |topic: &&Topic| spec.topics.iter().any(|p| p.matches(topic.as_str()));
        let mut places = Vec::new();
        for topic in data.topics.keys().filter(wanted) {
            for (partition, next) in data.places(topic, &spec.start)? {
                let end = match spec.until {
                    Until::End => data.partition(&partition)?.len(),
                    _ => usize::MAX,
                };
                places.push((partition, next, end));
            }
        }
        check_start(&spec.start, &CAPABILITIES)?;
        Ok(ToyReader::new(self.clone(), places))
    }

    fn admin(&self) -> Self {
        self.clone()
    }

    async fn close(&self, _: Duration) -> Result<()> {
        self.closed.send_replace(true);
        self.shared.changed();
        Ok(())
    }
}

impl Publisher for Toy {
    async fn enqueue(&self, batch: Vec<Outgoing>) -> Result<Receipt> {
        self.open("publish")?;
        let mut data = self.shared.lock();
        let store = |outgoing: Outgoing| {
            if let Err(error) = limits::check(&outgoing, &CAPABILITIES) {
                return Outcome::Rejected(error);
            }
            let logs = data.topic(&outgoing.topic);
            let mut hash = DefaultHasher::new();
            outgoing.envelope.key().hash(&mut hash);
            let partition = (hash.finish() % logs.len() as u64) as u32;
            let log = &mut logs[partition as usize];
            let position = Position::from(log.len() as u64);
            let stored_at = Timestamp::now().unix_millis();
            log.push(Recorded {
                position,
                stored_at,
                envelope: outgoing.envelope,
            });
            Outcome::Stored {
                partition,
                position,
                durability: Durability::Memory,
            }
        };
        let outcomes: Vec<Outcome> = batch.into_iter().map(store).collect();
        drop(data);
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        stats.sent += outcomes.len() as u64;
        stats.stored += stored as u64;
        stats.rejected += (outcomes.len() - stored) as u64;
        self.shared.changed();
        Ok(Receipt::ready(outcomes))
    }

    async fn flush(&self, _: Duration) -> Result<Vec<EventId>> {
        Ok(Vec::new())
    }

    fn stats(&self) -> PublisherStats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
