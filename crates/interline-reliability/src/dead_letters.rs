//! Dead letters of a topic: list, show, redrive, discard.
//!
//! A dead-letter topic is a log like any other, so nothing is deleted from it. What became of a
//! letter is appended behind it as a settlement: an event that names the letters it settles. The
//! open letters are those without one. This works on every transport, keeps the history, and a
//! redrive that was cut off simply goes on.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use interline_core::{
    Admin, AnyPublisher, AnyTransport, Budget, Envelope, Error, ErrorKind, Group, HeaderName, Key,
    Kind, Outcome, Outgoing, Pattern, Publisher, PublisherOptions, Purpose, ReadSpec, Reader,
    Recorded, Result, Start, Timestamp, Topic, Transport, Until,
};

use crate::dead_letter::{header, letter_id};
use crate::{DeadLetter, Returned, return_topic};

const SETTLEMENT: &str = "interline.deadletter.settled";

/// How many letters one settlement names: their ids stay far below the header limit.
const PAGE: usize = 256;

/// The dead letters of one topic.
///
/// ```
/// # use interline_core::AnyTransport;
/// use interline_reliability::{DeadLetters, Filter, Redrive};
///
/// # async fn example(transport: AnyTransport) -> interline_core::Result<()> {
/// let letters = DeadLetters::open(transport, "orders.billing.dlq").await?;
/// for letter in letters.list(&Filter::default().kind("timeout")).await? {
///     println!("{letter}");
/// }
/// let report = letters.redrive(Redrive::default().filter(Filter::default().kind("timeout"))).await?;
/// println!("{} redriven", report.settled);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct DeadLetters {
    transport: AnyTransport,
    publisher: AnyPublisher,
    topic: Topic,
}

/// Which dead letters are meant; an empty filter means all.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Filter {
    /// Only letters with one of these ids.
    pub ids: Vec<String>,
    /// Only letters of this group.
    pub group: Option<Group>,
    /// Only events whose type fits.
    pub ty: Option<Pattern>,
    /// Only causes of this kind.
    pub kind: Option<String>,
    /// Only causes whose text contains this.
    pub cause: Option<String>,
    /// Only causes with this fingerprint.
    pub fingerprint: Option<String>,
    /// Only events of this tenant.
    pub tenant: Option<String>,
    /// Only events with this key.
    pub key: Option<Key>,
    /// Only letters that died at this time or later.
    pub since: Option<Timestamp>,
    /// Only letters that died before this time.
    pub before: Option<Timestamp>,
}

impl Filter {
    /// Only letters with this id, beside those already named.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.ids.push(id.into());
        self
    }

    /// Only causes of this kind, such as `permanent`.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Only events whose type fits.
    #[must_use]
    pub fn ty(mut self, pattern: Pattern) -> Self {
        self.ty = Some(pattern);
        self
    }

    /// Whether `letter` is meant.
    #[must_use]
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        fn fits<T>(wanted: &Option<T>, test: impl FnOnce(&T) -> bool) -> bool {
            wanted.as_ref().is_none_or(test)
        }
        let (cause, envelope) = (&letter.cause, &letter.envelope);
        (self.ids.is_empty() || self.ids.contains(&letter.id()))
            && fits(&self.group, |group| *group == letter.origin.group)
            && fits(&self.ty, |pattern| pattern.matches(envelope.ty()))
            && fits(&self.kind, |kind| *kind == cause.kind)
            && fits(&self.cause, |text| cause.text.contains(text))
            && fits(&self.fingerprint, |print| *print == cause.fingerprint())
            && fits(&self.tenant, |tenant| {
                envelope.tenant_id() == Some(tenant.as_str())
            })
            && fits(&self.key, |key| envelope.key() == Some(key))
            && fits(&self.since, |since| cause.last_failure >= *since)
            && fits(&self.before, |before| cause.last_failure < *before)
    }
}

/// How a redrive goes about it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Redrive {
    /// Which letters.
    pub filter: Filter,
    /// At most so many.
    pub limit: Option<usize>,
    /// At most so many per second.
    pub rate: Option<u32>,
    /// Only count what would be done.
    pub dry_run: bool,
}

impl Redrive {
    /// Sets which letters are meant.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Sets how many at most.
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Sets how many per second at most.
    #[must_use]
    pub fn rate(mut self, per_second: u32) -> Self {
        self.rate = Some(per_second.max(1));
        self
    }

    /// Counts only.
    #[must_use]
    pub fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }
}

/// What a redrive or discard did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedriveReport {
    /// How many open letters were meant.
    pub matched: usize,
    /// How many were settled; 0 in a dry run.
    pub settled: usize,
}

impl DeadLetters {
    /// The dead letters of `topic`, such as `orders.billing.dlq`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is no such topic; when the server cannot be reached.
    pub async fn open(transport: AnyTransport, topic: impl AsRef<str>) -> Result<Self> {
        let topic = Topic::system(topic)?;
        let exact = Pattern::exact(topic.as_str());
        if transport.admin().topics(&exact).await?.is_empty() {
            return Err(Error::new(
                ErrorKind::NotFound,
                "dead letters",
                format!("there is no dead-letter topic `{topic}`"),
            )
            .on(transport.capabilities().transport)
            .remedy("name it as <topic>.<group>.dlq; it appears with the first dead letter"));
        }
        let publisher = transport.publisher(PublisherOptions::default()).await?;
        Ok(Self {
            transport,
            publisher,
            topic,
        })
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.topic
    }

    /// The open letters that `filter` means, oldest first within each partition.
    ///
    /// It reads the whole topic as it stands now.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<DeadLetter>> {
        let mut letters = BTreeMap::new();
        let mut settled = HashSet::new();
        let mut reader = self
            .transport
            .read(ReadSpec {
                topics: vec![Pattern::exact(self.topic.as_str())],
                start: Start::Earliest,
                until: Until::End,
            })
            .await?;
        while let Some(batch) = reader.next(Budget::default()).await? {
            for record in batch.records {
                if record.envelope.ty() == SETTLEMENT {
                    settled.extend(settled_ids(&record));
                } else if let Some(letter) = DeadLetter::from_record(&record) {
                    let order = (batch.partition.index, record.position);
                    letters.entry(letter.id()).or_insert((order, letter));
                }
            }
        }
        letters.retain(|id, (_, letter)| !settled.contains(id) && filter.matches(letter));
        let mut letters: Vec<_> = letters.into_values().collect();
        letters.sort_unstable_by_key(|(order, _)| *order);
        Ok(letters.into_iter().map(|(_, letter)| letter).collect())
    }

    /// The open letter with this id.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; when the server cannot be reached.
    pub async fn get(&self, id: &str) -> Result<DeadLetter> {
        let found = self.list(&Filter::default().id(id)).await?;
        found.into_iter().next().ok_or_else(|| {
            let shown: String = id.chars().take(32).collect();
            Error::new(
                ErrorKind::NotFound,
                "dead letters",
                format!("no open dead letter {shown:?} in `{}`", self.topic),
            )
            .remedy("list them to see the ids")
        })
    }

    /// Sends letters back to the group that they died in, through its return topic, and settles
    /// them. Events keep their ids; the order of each key is kept.
    ///
    /// Cut off in the middle, it goes on where it stopped when called again; the letters of the
    /// page that was under way may then be sent twice, which an inbox recognises.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached; what was settled stays settled.
    pub async fn redrive(&self, redrive: Redrive) -> Result<RedriveReport> {
        self.redrive_with(redrive, |_| {}).await
    }

    /// As [`redrive`](Self::redrive), telling `progress` of each settled letter.
    ///
    /// # Errors
    /// As [`redrive`](Self::redrive).
    pub async fn redrive_with(
        &self,
        redrive: Redrive,
        mut progress: impl FnMut(&DeadLetter) + Send,
    ) -> Result<RedriveReport> {
        let mut letters = self.list(&redrive.filter).await?;
        letters.truncate(redrive.limit.unwrap_or(usize::MAX));
        let mut report = RedriveReport {
            matched: letters.len(),
            settled: 0,
        };
        if redrive.dry_run {
            return Ok(report);
        }
        self.ensure_return_topics(&letters).await?;
        // A paced redrive works in tenths of a second, so that a cut loses little.
        let page = redrive.rate.map_or(PAGE, |rate| {
            usize::try_from(rate.div_ceil(10)).unwrap_or(PAGE).min(PAGE)
        });
        for letters in letters.chunks(page) {
            self.send_back(letters).await?;
            self.settle(letters, "redriven").await?;
            letters.iter().for_each(&mut progress);
            report.settled += letters.len();
            if let Some(rate) = redrive.rate {
                let count = u32::try_from(letters.len()).unwrap_or(u32::MAX);
                tokio::time::sleep(Duration::from_secs(1) * count / rate).await;
            }
        }
        Ok(report)
    }

    /// Settles letters without sending them anywhere.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    pub async fn discard(&self, filter: &Filter, dry_run: bool) -> Result<RedriveReport> {
        let letters = self.list(filter).await?;
        let mut report = RedriveReport {
            matched: letters.len(),
            settled: 0,
        };
        if !dry_run {
            for letters in letters.chunks(PAGE) {
                self.settle(letters, "discarded").await?;
                report.settled += letters.len();
            }
        }
        Ok(report)
    }

    async fn ensure_return_topics(&self, letters: &[DeadLetter]) -> Result<()> {
        let origins = letters.iter().map(|letter| &letter.origin);
        let own: HashSet<_> = origins.map(|o| (o.topic(), &o.group)).collect();
        let specs = own.iter().map(|(topic, group)| return_topic(topic, group));
        let specs = specs.collect();
        self.transport.admin().ensure(specs).await.map(|_| ())
    }

    async fn send_back(&self, letters: &[DeadLetter]) -> Result<()> {
        let batch = letters.iter().map(|letter| {
            let marks = Returned {
                redriven: letter.redriven + 1,
                ..Returned::default()
            };
            Outgoing {
                topic: letter.origin.topic().retry(&letter.origin.group),
                envelope: marks.mark(&letter.envelope),
                // A letter returns once; if it dies again, it does so at another position.
                purpose: Purpose::Return(letter.origin.number()),
            }
        });
        self.store(batch.collect()).await
    }

    async fn settle(&self, letters: &[DeadLetter], disposition: &'static str) -> Result<()> {
        let ids: Vec<String> = letters.iter().map(DeadLetter::id).collect();
        let kind = Arc::new(Kind::new("/interline", SETTLEMENT)?);
        let mut envelope = Envelope::builder(kind).time(Timestamp::now()).build()?;
        let headers = envelope.headers_mut();
        headers.push(HeaderName::from_static(header::SETTLED), ids.join(" "));
        headers.push(HeaderName::from_static(header::DISPOSITION), disposition);
        self.store(vec![Outgoing::new(self.topic.clone(), envelope)])
            .await
    }

    async fn store(&self, batch: Vec<Outgoing>) -> Result<()> {
        let outcomes = self.publisher.enqueue(batch).await?.await;
        outcomes
            .into_iter()
            .try_for_each(|outcome| Outcome::into_result(outcome).map(|_| ()))
    }
}

fn settled_ids(record: &Recorded) -> Vec<String> {
    let ids = record.envelope.headers().text(header::SETTLED);
    ids.unwrap_or_default()
        .split(' ')
        .filter_map(|id| u64::from_str_radix(id, 16).ok())
        .map(letter_id)
        .collect()
}
