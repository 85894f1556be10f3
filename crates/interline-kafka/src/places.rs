//! Where groups and partitions stand, asked for many of them at once: one after the other, a
//! cluster with hundreds of groups would take minutes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::thread;
use std::time::{Duration, Instant};

use interline_core::Result;
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::cluster::{AGAIN, Cluster};
use crate::error::{coded, kafka};
use crate::ffi::{Inquiry, Place};
use crate::monitor::Watch;

/// How many questions are on their way at a time. A broker answers those of one connection one
/// after the other, so this only has to hide the way there and back.
const ABREAST: usize = 64;

/// Questions about ends go out one at a time. librdkafka 2.12 frees such a question twice if the
/// leaders of its partitions become known while it is being asked, by the answer to another one.
const ALONE: usize = 1;

/// Partitions per question about their ends: librdkafka looks each one up among the others.
const PARTITIONS: usize = 500;

/// A partition as the cluster calls it.
pub(crate) type Name = (String, i32);

/// The first and the next offset of partitions, or why there is none.
pub(crate) type Ends = BTreeMap<Name, std::result::Result<(i64, i64), Code>>;

/// Asks a cluster many things at once. It blocks.
///
/// Its client lives for one listing: librdkafka remembers the coordinators of groups and does not
/// forget one that refuses because the group has moved.
pub(crate) struct Census {
    client: BaseConsumer<Watch>,
    timeout: Duration,
    operation: &'static str,
}

impl Census {
    pub(crate) fn new(cluster: &Cluster, operation: &'static str) -> Result<Self> {
        Ok(Self {
            client: cluster.short_lived(operation)?,
            timeout: cluster.resolved.config.request_timeout,
            operation,
        })
    }

    /// What each of `groups` has stored, in their order.
    pub(crate) fn places(&self, groups: &[String]) -> Result<Vec<Vec<Place>>> {
        let mut all: Vec<Vec<Place>> = groups.iter().map(|_| Vec::new()).collect();
        let ask = |inquiry: &Inquiry<'_, Watch>, number: usize| {
            inquiry.ask_places(&groups[number], number);
        };
        self.together(groups.len(), ABREAST, ask, |number, places| {
            for place in &places {
                place.result.map_err(|code| coded(self.operation, code))?;
            }
            all[number] = places;
            Ok(())
        })?;
        Ok(all)
    }

    /// The ends of `partitions`. One that was made a moment ago, or whose leader moves, is asked
    /// again until the request timeout.
    pub(crate) fn ends(&self, partitions: &BTreeSet<Name>) -> Result<Ends> {
        let late = Instant::now() + self.timeout;
        let mut ends = Ends::new();
        let mut open: Vec<Name> = partitions.iter().cloned().collect();
        loop {
            self.look(&open, &mut ends)?;
            let is_open = |name: &Name| match ends.get(name) {
                Some(Err(code)) => coded(self.operation, *code).is_transient(),
                _ => false,
            };
            open.retain(is_open);
            if open.is_empty() || Instant::now() >= late {
                return Ok(ends);
            }
            thread::sleep(AGAIN);
            // Who leads is asked anew only with this.
            let asked = self.client.client().fetch_metadata(None, self.timeout);
            asked.map_err(|error| kafka(self.operation, &error))?;
        }
    }

    fn look(&self, partitions: &[Name], ends: &mut Ends) -> Result<()> {
        let mut questions = Vec::new();
        for some in partitions.chunks(PARTITIONS) {
            for end in [Offset::Beginning, Offset::End] {
                let mut list = TopicPartitionList::with_capacity(some.len());
                for (name, index) in some {
                    let added = list.add_partition_offset(name, *index, end);
                    added.map_err(|error| kafka(self.operation, &error))?;
                }
                questions.push((end, list));
            }
        }
        for name in partitions {
            ends.remove(name);
        }
        let ask = |inquiry: &Inquiry<'_, Watch>, number: usize| {
            inquiry.ask_ends(&questions[number].1, number);
        };
        self.together(questions.len(), ALONE, ask, |number, places| {
            for place in places {
                let name = (place.topic, place.partition);
                let both = ends.entry(name).or_insert(Ok((0, 0)));
                match (place.result, &mut *both, questions[number].0) {
                    (Ok(()), Ok((first, _)), Offset::Beginning) => *first = place.offset,
                    (Ok(()), Ok((_, next)), _) => *next = place.offset,
                    (Err(code), _, _) => *both = Err(code),
                    (Ok(()), Err(_), _) => {}
                }
            }
            Ok(())
        })
    }

    /// Asks `count` questions, so many `abreast`, and hands each answer on with its number.
    fn together(
        &self,
        count: usize,
        abreast: usize,
        ask: impl Fn(&Inquiry<'_, Watch>, usize),
        mut take: impl FnMut(usize, Vec<Place>) -> Result<()>,
    ) -> Result<()> {
        let refused = |code| coded(self.operation, code);
        let lost = || refused(Code::OperationTimedOut);
        let inquiry = Inquiry::new(self.client.client(), self.timeout).ok_or_else(lost)?;
        let mut later: VecDeque<usize> = (0..count).collect();
        for number in later.drain(..count.min(abreast)) {
            ask(&inquiry, number);
        }
        for _ in 0..count {
            let (number, answer) = inquiry.answer().ok_or_else(lost)?;
            take(number, answer.map_err(refused)?)?;
            if let Some(number) = later.pop_front() {
                ask(&inquiry, number);
            }
        }
        Ok(())
    }
}
