//! Commits on their way.

use std::collections::VecDeque;

use interline_core::{Committed, ErrorKind, Fence, Partition, Result};
use rdkafka::Offset;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::oneshot;

use crate::error::{closed, coded};
use crate::ffi::Queue;

/// Commits, one request at a time: more would pile up behind a rebalance.
pub(super) struct Commits {
    queue: Queue,
    waiting: VecDeque<Entry>,
    outstanding: Vec<Entry>,
    requests: Vec<Option<Request>>,
}

/// The commit of one partition.
pub(super) struct Entry {
    pub(super) partition: Partition,
    /// The topic as the cluster knows it.
    pub(super) name: String,
    pub(super) fence: Fence,
    pub(super) offset: i64,
    pub(super) metadata: String,
    /// Whether the partition is given up whatever comes of it.
    pub(super) release: bool,
    /// Whose question it answers: the number of the request and the place in its answer.
    pub(super) asked: Option<(usize, usize)>,
}

struct Request {
    answers: Vec<Option<Committed>>,
    missing: usize,
    denied: Option<Code>,
    reply: oneshot::Sender<Result<Vec<Committed>>>,
}

impl Commits {
    pub(super) fn new(queue: Queue) -> Self {
        Self {
            queue,
            waiting: VecDeque::new(),
            outstanding: Vec::new(),
            requests: Vec::new(),
        }
    }

    /// Notes a question with this many parts.
    pub(super) fn ask(
        &mut self,
        parts: usize,
        reply: oneshot::Sender<Result<Vec<Committed>>>,
    ) -> usize {
        let request = Some(Request {
            answers: vec![None; parts],
            missing: parts,
            denied: None,
            reply,
        });
        match self.requests.iter().position(Option::is_none) {
            Some(free) => {
                self.requests[free] = request;
                free
            }
            None => {
                self.requests.push(request);
                self.requests.len() - 1
            }
        }
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.waiting.push_back(entry);
    }

    /// Answers one part of a question; the last part sends the answer.
    pub(super) fn answer(&mut self, asked: Option<(usize, usize)>, answer: Committed) {
        let Some((number, part)) = asked else { return };
        let Some(slot) = self.requests.get_mut(number) else {
            return;
        };
        let Some(request) = slot else { return };
        if request.answers[part].replace(answer).is_none() {
            request.missing -= 1;
        }
        if request.missing == 0
            && let Some(request) = slot.take()
        {
            let answer = match request.denied {
                Some(code) => Err(coded("commit", code)),
                None => Ok(request.answers.into_iter().flatten().collect()),
            };
            // Who dropped the question does not want the answer.
            let _ = request.reply.send(answer);
        }
    }

    fn deny(&mut self, asked: Option<(usize, usize)>, code: Code) {
        if let Some((number, _)) = asked
            && let Some(Some(request)) = self.requests.get_mut(number)
        {
            request.denied = Some(code);
        }
        self.answer(asked, Committed::NotNow);
    }

    /// Answers what waits for partitions that are owned no more.
    pub(super) fn drop_stale(&mut self, owns: impl Fn(&Entry) -> bool) {
        let (kept, stale): (Vec<_>, Vec<_>) = self.waiting.drain(..).partition(owns);
        self.waiting = kept.into();
        for entry in stale {
            self.answer(entry.asked, Committed::Stale);
        }
    }

    /// Sends what waits, if nothing is on its way; the partitions that are given up although
    /// librdkafka did not take the request.
    pub(super) fn send(&mut self) -> Vec<(Partition, Fence)> {
        if !self.outstanding.is_empty() || self.waiting.is_empty() {
            return Vec::new();
        }
        let mut list = TopicPartitionList::with_capacity(self.waiting.len());
        let mut later = VecDeque::new();
        for entry in self.waiting.drain(..) {
            // One commit per partition and request: a second one waits for the next.
            if self
                .outstanding
                .iter()
                .any(|other| other.partition == entry.partition)
            {
                later.push_back(entry);
                continue;
            }
            let index = i32::try_from(entry.partition.index).unwrap_or(i32::MAX);
            let mut element = list.add_partition(&entry.name, index);
            // An offset is a number of the log, which librdkafka takes as it is.
            let _ = element.set_offset(Offset::Offset(entry.offset));
            element.set_metadata(&entry.metadata);
            self.outstanding.push(entry);
        }
        self.waiting = later;
        match self.queue.commit(&list) {
            Ok(()) => Vec::new(),
            Err(code) => self.finish(|_| Err(code)),
        }
    }

    /// Takes an answer of the broker, if one is there; the partitions that are given up with it.
    pub(super) fn receive(&mut self) -> Vec<(Partition, Fence)> {
        let Some(results) = self.queue.committed() else {
            return Vec::new();
        };
        self.finish(|entry| {
            let index = i32::try_from(entry.partition.index).unwrap_or(i32::MAX);
            let mut results = results.iter();
            let found = results.find(|r| r.partition == index && r.topic == entry.name);
            found.map_or(Err(Code::Fail), |found| found.result)
        })
    }

    fn finish(&mut self, result: impl Fn(&Entry) -> Result<(), Code>) -> Vec<(Partition, Fence)> {
        let mut released = Vec::new();
        for entry in std::mem::take(&mut self.outstanding) {
            self.settle(&entry, result(&entry));
            if entry.release {
                released.push((entry.partition, entry.fence));
            }
        }
        released
    }

    fn settle(&mut self, entry: &Entry, result: Result<(), Code>) {
        let answer = match result {
            Ok(()) => Committed::Applied,
            // The member was evicted, or another one took its place.
            Err(Code::UnknownMemberId | Code::FencedInstanceId) => Committed::Stale,
            Err(code) if matches!(crate::error::kind(code).0, ErrorKind::Denied) => {
                return self.deny(entry.asked, code);
            }
            // Rebalancing groups and moving coordinators refuse healthy owners too.
            Err(code) => {
                tracing::debug!(target: "interline::kafka", %code, "a commit has to be repeated");
                Committed::NotNow
            }
        };
        self.answer(entry.asked, answer);
    }

    /// Whether a commit that gives a partition up is still on its way.
    pub(super) fn is_releasing(&self, partition: &Partition) -> bool {
        let mut entries = self.waiting.iter().chain(&self.outstanding);
        entries.any(|entry| entry.release && entry.partition == *partition)
    }

    /// Ends every question: the member is gone.
    pub(super) fn close(&mut self) {
        self.waiting.clear();
        self.outstanding.clear();
        for request in self.requests.drain(..).flatten() {
            let _ = request.reply.send(Err(closed("commit")));
        }
    }
}
