//! Checkpoints: when they are stored and what the answers mean.

use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use interline_core::{
    BoxFuture, Checkpoint, Committed, Control, Fence, Position, Progress, Result, planted,
};
use tokio::time::Instant;

use super::Engine;
use super::part::Part;

/// How soon a checkpoint that could not be stored is tried again.
const AGAIN: Duration = Duration::from_millis(20);

/// One commit under way. There is only one at a time: a fence does not stop an older commit of
/// the same owner from landing after a newer one.
pub(super) struct Committing {
    future: BoxFuture<'static, Result<Vec<Committed>>>,
    parts: Vec<Sent>,
}

struct Sent {
    part: usize,
    fence: Fence,
    version: u64,
}

impl Engine {
    /// When the next commit is due, if none is under way.
    pub(super) fn next_commit(&self) -> Option<Instant> {
        if self.committing.is_some() {
            return None;
        }
        self.parts
            .iter()
            .filter_map(|(_, part)| self.commit_due(part))
            .min()
    }

    fn commit_due(&self, part: &Part) -> Option<Instant> {
        if !part.is_dirty() {
            return None;
        }
        let cadence = self.config.cadence();
        let since = part.version.since?;
        let enough = cadence
            .count
            .is_some_and(|count| part.version.settled >= count);
        if part.is_urgent() || enough {
            return Some(since);
        }
        Some(since + cadence.every)
    }

    pub(super) fn poll_commit(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        loop {
            if let Some(committing) = &mut self.committing {
                let Poll::Ready(answer) = committing.future.as_mut().poll(cx) else {
                    return any;
                };
                if let Some(Committing { parts, .. }) = self.committing.take() {
                    self.on_committed(&parts, answer);
                }
                any = true;
            }
            if !self.start_commit() {
                return any;
            }
        }
    }

    /// Sends the progress of every partition that changed, once one of them is due.
    fn start_commit(&mut self) -> bool {
        let now = Instant::now();
        if self.next_commit().is_none_or(|due| due > now) {
            return false;
        }
        let mut sent = Vec::new();
        let mut checkpoints = Vec::new();
        for (at, part) in &self.parts {
            if part.is_dirty() {
                sent.push(Sent {
                    part: at,
                    fence: part.fence,
                    version: part.version.now,
                });
                checkpoints.push(tampered(part.checkpoint(false)));
            }
        }
        let control = self.control.clone();
        self.committing = Some(Committing {
            future: Box::pin(async move { control.commit(checkpoints).await }),
            parts: sent,
        });
        true
    }

    fn on_committed(&mut self, sent: &[Sent], answer: Result<Vec<Committed>>) {
        let answers = match answer {
            Ok(answers) => answers,
            Err(error) => {
                tracing::warn!(%error, "checkpoints were not stored; they are tried again");
                vec![Committed::NotNow; sent.len()]
            }
        };
        for (sent, answer) in sent.iter().zip(answers) {
            // By fence: the partition may have been lost and won again meanwhile.
            let Some(part) = self.parts.get_mut(sent.part) else {
                continue;
            };
            if part.fence != sent.fence {
                continue;
            }
            match answer {
                Committed::Applied => {
                    part.stored(sent.version);
                    self.status.count(|counts| counts.checkpoints += 1);
                    self.refill_later(sent.part);
                }
                Committed::NotNow => part.version.since = Some(Instant::now() + AGAIN),
                Committed::Stale => {
                    tracing::warn!(partition = %part.partition, "fenced: another owner has it");
                    self.status.count(|counts| counts.stale += 1);
                    self.lose(sent.part);
                }
            }
        }
    }

    /// Whether a commit under way is about `part`.
    pub(super) fn is_committing(&self, part: usize, fence: Fence) -> bool {
        let committing = self.committing.as_ref();
        committing.is_some_and(|committing| {
            committing
                .parts
                .iter()
                .any(|sent| sent.part == part && sent.fence == fence)
        })
    }

    pub(super) fn poll_releases(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = self.release_what_is_done();
        while let Poll::Ready(Some(answer)) = self.releasing.poll_next_unpin(cx) {
            any = true;
            match answer {
                Ok(answers) => {
                    let stale = answers.iter().filter(|a| **a != Committed::Applied).count();
                    if stale > 0 {
                        tracing::warn!(stale, "last checkpoints were not stored; events replay");
                    }
                }
                Err(error) => tracing::warn!(%error, "partitions were given up unreleased"),
            }
        }
        any
    }

    /// Hands over the partitions that have nothing left to wait for.
    fn release_what_is_done(&mut self) -> bool {
        let ready = |at: usize, part: &Part| {
            part.is_leaving()
                && part.running == 0
                && part.storing == 0
                && !self.is_committing(at, part.fence)
        };
        let parts = self.parts.iter().filter(|(at, part)| ready(*at, part));
        let done: Vec<usize> = parts.map(|(at, _)| at).collect();
        if done.is_empty() {
            return false;
        }
        let mut checkpoints = Vec::with_capacity(done.len());
        for at in done {
            // What failed since it was revoked may be held.
            self.let_go(at);
            let part = self.parts.remove(at);
            self.by_partition.remove(&*part.partition);
            let mut checkpoint = tampered(part.checkpoint(true));
            if planted::is("release-without-checkpoint") {
                checkpoint.progress = Progress::default();
            }
            checkpoints.push(checkpoint);
        }
        let control = self.control.clone();
        self.releasing
            .push(Box::pin(async move { control.release(checkpoints).await }));
        true
    }
}

/// The checkpoint, unless a bug is planted here.
fn tampered(mut checkpoint: Checkpoint) -> Checkpoint {
    if planted::is("commit-one-too-far") {
        let frontier = checkpoint.progress.frontier;
        checkpoint.progress.frontier = frontier.map(|Position(high, low)| Position(high, low + 1));
    }
    if planted::is("ranges-dropped") {
        checkpoint.progress.done.clear();
    }
    checkpoint
}
