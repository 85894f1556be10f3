//! The loop of a member's thread.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use interline_core::{ErrorKind, Partition, Signal};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::assign::ASK;
use super::{Closing, Command, Member, Phase, Rebalance};
use crate::fetch::Fetched;
use crate::offsets;
use crate::outbox::{End, Failure};

/// The longest wait: how soon anything that nobody announces is noticed.
const TICK: Duration = Duration::from_millis(100);

/// The longest that unassigning takes: librdkafka only passes it on among its threads.
const UNASSIGN: Duration = Duration::from_secs(1);

/// How long an open partition may be silent before it is compared with the cluster.
const SILENCE: Duration = Duration::from_secs(15);

impl Member {
    pub(super) fn run(mut self) {
        self.subscribe();
        loop {
            self.serve_commands();
            self.serve_consumer();
            self.serve_rebalances();
            self.serve_commits();
            let busy = self.fetch();
            self.serve_clock();
            if self.has_ended() && self.closing.as_ref().is_some_and(|c| c.is_asked) {
                break;
            }
            if !busy {
                self.wake.wait(TICK);
            }
        }
        self.commits.close();
        self.outbox.end(End::Closed);
        for reply in self
            .closing
            .take()
            .into_iter()
            .flat_map(|closing| closing.replies)
        {
            // Who gave up waiting does not want to know.
            let _ = reply.send(());
        }
    }

    fn serve_commands(&mut self) {
        for command in self.inbox.take() {
            match command {
                Command::Store {
                    checkpoints,
                    release,
                    reply,
                } => {
                    self.store(checkpoints, release, reply);
                }
                Command::Flow {
                    partition,
                    fence,
                    flow,
                } => {
                    self.fetcher.flow(&partition, fence, flow);
                }
                Command::Leave => {
                    self.is_leaving = true;
                    self.leave_if_free();
                }
                #[cfg(feature = "it")]
                Command::Stall => self.fetcher.stall(),
                Command::Close { reply } => {
                    let closing = self.closing.get_or_insert_default();
                    closing.is_asked = true;
                    closing.replies.extend(reply);
                }
            }
        }
    }

    /// Lets the consumer do what waits: rebalances, errors, log lines. Doing so is what keeps
    /// the member from being evicted.
    fn serve_consumer(&mut self) {
        if self.has_ended() {
            return;
        }
        loop {
            match self.consumer.poll(Duration::ZERO) {
                Some(Err(KafkaError::MessageConsumptionFatal(_))) => {
                    self.judge(RDKafkaErrorCode::Fatal, &self.fatal_text());
                }
                Some(Err(error)) => {
                    if let Some(code) = error.rdkafka_error_code() {
                        self.judge(code, "");
                    }
                }
                // Fetched before its partition had a queue of its own; it is fetched again there.
                Some(Ok(_)) | None => {}
            }
            if self.common.len() == 0 {
                return;
            }
        }
    }

    fn fatal_text(&self) -> String {
        let fatal = self.consumer.client().fatal_error();
        fatal.map_or_else(String::new, |(_, text)| text)
    }

    fn serve_rebalances(&mut self) {
        match &self.phase {
            Phase::Revoking { .. } => self.go_on_revoking(),
            Phase::Assigning { list, retry_at } if Instant::now() >= *retry_at => {
                let list = list.clone();
                self.assign(list);
            }
            Phase::Assigning { .. } | Phase::Steady => {}
        }
        while let Some(rebalance) = self.next_rebalance() {
            match rebalance {
                Rebalance::Assign(list) => self.assign(list),
                Rebalance::Revoke { list, lost } => self.revoke(list, lost),
            }
        }
        self.begin_closing();
    }

    /// The next decision of the group, once the one before is carried out; a loss waits for
    /// nothing.
    fn next_rebalance(&mut self) -> Option<Rebalance> {
        let waiting = &self.consumer.client().context().rebalances;
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let is_loss = matches!(waiting.front(), Some(Rebalance::Revoke { lost: true, .. }));
        if is_loss || self.closing.is_some() || matches!(self.phase, Phase::Steady) {
            let next = waiting.pop_front()?;
            self.unassigned = None;
            return Some(next);
        }
        None
    }

    /// Starts to leave the group; its answer is a last revocation.
    ///
    /// The order counts: librdkafka that is told of the end while it still unassigns goes without
    /// a word to the group, which then keeps the partitions for a session. What is unassigned
    /// after it was told is followed by the word.
    fn begin_closing(&mut self) {
        let Some(closing) = &mut self.closing else {
            return;
        };
        let unassigns = self.unassigned.is_some_and(|at| at.elapsed() < UNASSIGN);
        if unassigns || std::mem::replace(&mut closing.began, true) {
            return;
        }
        self.fetcher.close_all();
        if let Err(error) = self.consumer.close_queue() {
            tracing::debug!(target: "interline::kafka", %error, "closing began already");
        }
        if let Phase::Revoking { list, .. } | Phase::Assigning { list, .. } = &self.phase {
            let list = list.clone();
            self.phase = Phase::Steady;
            self.revoke(list, true);
        }
    }

    /// Whether the consumer has left the group and is of no more use.
    fn has_ended(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.began) && self.consumer.closed()
    }

    fn serve_commits(&mut self) {
        let owned = &self.owned;
        self.commits.drop_stale(|entry| {
            owned
                .get(&entry.partition)
                .is_some_and(|owned| owned.fence == entry.fence)
        });
        let mut released = self.commits.send();
        released.extend(self.commits.receive());
        if released.is_empty() {
            return;
        }
        for (partition, fence) in released {
            let is_present = self.owned.get(&partition).is_some_and(|o| o.fence == fence);
            if is_present {
                self.released(&partition);
            }
        }
        self.leave_if_free();
        // What waited for these answers can go on at once.
        self.go_on_revoking();
    }

    /// A leaving member goes when nothing is left to settle.
    fn leave_if_free(&mut self) {
        let is_free = self
            .owned
            .iter()
            .all(|(p, owned)| owned.is_released && !self.commits.is_releasing(p));
        if self.is_leaving && is_free && self.closing.is_none() {
            self.closing = Some(Closing::default());
        }
    }

    /// Moves one batch to the outbox, if there is one and room for it.
    fn fetch(&mut self) -> bool {
        if self.closing.is_some() {
            return false;
        }
        let Some(budget) = self.outbox.room() else {
            return false;
        };
        match self.fetcher.fetch(budget) {
            None => false,
            Some(Fetched::Batch(batch)) => {
                self.outbox.push(Signal::Batch(batch));
                true
            }
            Some(Fetched::Error {
                partition,
                code,
                text,
            }) => {
                if matches!(crate::error::kind(code).0, ErrorKind::PositionLost) {
                    self.position_lost(&partition);
                } else {
                    self.judge(code, &text);
                }
                true
            }
        }
    }

    /// The place where a reading stands is not in the partition any more, or not yet. Reading on
    /// elsewhere would lose events in silence.
    fn position_lost(&self, partition: &Partition) {
        let name = self.name(&partition.topic);
        let kept = match offsets::ends(&*self.consumer, &name, partition.index, ASK) {
            Ok((first, next)) if first < next => format!("it holds {first} to {}", next - 1),
            Ok(_) => "it is empty".to_owned(),
            Err(_) => "what it holds is unknown".to_owned(),
        };
        let next = self.fetcher.next_of(partition);
        self.outbox.end(End::Failed(Failure {
            kind: ErrorKind::PositionLost,
            message: format!("position {next} of {partition} is lost: {kept}"),
            remedy: "reset the group to a place that is kept (`Admin::reset`)",
        }));
    }

    fn serve_clock(&mut self) {
        self.refresh_topics();
        if self.checked.elapsed() < SILENCE {
            return;
        }
        self.checked = Instant::now();
        self.fetcher.ring_all();
        if !matches!(self.phase, Phase::Steady) || self.cluster.monitor().is_troubled() {
            return;
        }
        if let Some(before) = Instant::now().checked_sub(SILENCE) {
            self.revive(before);
        }
    }

    /// Opens readings anew that are silent although there is something to read.
    fn revive(&mut self, before: Instant) {
        let silent: Vec<(Partition, i64)> = self
            .fetcher
            .silent(before)
            .map(|source| (source.partition.clone(), source.next))
            .collect();
        for (partition, next) in silent {
            let name = self.name(&partition.topic);
            let ends = offsets::ends(&*self.consumer, &name, partition.index, ASK);
            let Ok((_, end)) = ends else { return };
            // Markers of transactions at the end are never delivered: look once per end.
            if end > next && self.fetcher.note_end(&partition, end) {
                tracing::warn!(target: "interline::kafka", %partition, "the reading stalled and is opened anew");
                if let Err(error) = self.reopen(&partition, next) {
                    tracing::warn!(target: "interline::kafka", %error, "it could not be opened anew");
                }
            }
        }
    }
}
