//! Reading without a group.

use std::sync::Arc;

use interline_core::{Batch, Budget, Pattern, ReadSpec, Result, Topic, Until};
use tokio::task::coop;
use tokio::time::Instant;

use crate::link::Link;
use crate::store::{Bell, TopicLog};

/// A reading without a group. What it has not read may be dropped under it; it then ends with
/// [`PositionLost`](interline_core::ErrorKind::PositionLost).
#[derive(Debug)]
pub struct Reader {
    link: Arc<Link>,
    bell: Arc<Bell>,
    parts: Vec<Part>,
    turn: usize,
    until: Until,
}

#[derive(Debug)]
struct Part {
    log: Arc<TopicLog>,
    partition: u32,
    next: u64,
    /// The index before which it ends, once that is known.
    end: Option<u64>,
}

enum Step {
    Batch(Batch),
    Ended,
    Wait,
}

impl Reader {
    pub(crate) fn new(link: Arc<Link>, spec: &ReadSpec) -> Result<Self> {
        let bell = link.bell();
        let mut reader = Self {
            link,
            bell,
            parts: Vec::new(),
            turn: 0,
            until: spec.until,
        };
        for log in reader.link.store.topics() {
            if !wanted(&spec.topics, &log.name) {
                continue;
            }
            for (partition, next) in (0..).zip(log.resolve(&spec.start)?) {
                log.listen(partition, &reader.bell);
                let end = (spec.until == Until::End).then(|| log.end(partition));
                reader.parts.push(Part {
                    log: Arc::clone(&log),
                    partition,
                    next,
                    end,
                });
            }
        }
        Ok(reader)
    }

    fn step(&mut self, budget: Budget) -> Result<Step> {
        let mut ended = true;
        for _ in 0..self.parts.len() {
            self.turn = (self.turn + 1) % self.parts.len();
            let part = &mut self.parts[self.turn];
            if let Some(batch) = part.read(budget)? {
                return match self.until {
                    Until::Time(time) => Ok(part.cut(batch, time.unix_millis())),
                    Until::Forever | Until::End => Ok(Step::Batch(batch)),
                };
            }
            ended &= part.end.is_some_and(|end| part.next >= end);
        }
        Ok(if ended && self.until != Until::Forever {
            Step::Ended
        } else {
            Step::Wait
        })
    }

    /// When the time of `until` has come, what is not there yet is not wanted.
    fn end_by_clock(&mut self) -> Option<Instant> {
        let Until::Time(time) = self.until else {
            return None;
        };
        let clock = &self.link.store.clock;
        let due = clock.instant(time.unix_millis());
        if clock.millis(Instant::now()) >= time.unix_millis() {
            for part in &mut self.parts {
                let behind = part.log.end(part.partition);
                part.end.get_or_insert(behind);
            }
        }
        due
    }
}

impl Part {
    fn read(&mut self, budget: Budget) -> Result<Option<Batch>> {
        let until = self.end.unwrap_or(u64::MAX);
        if self.next >= until.min(self.log.end(self.partition)) {
            return Ok(None);
        }
        let records = self.log.read(self.partition, self.next, until, budget)?;
        self.next += records.len() as u64;
        Ok((!records.is_empty()).then(|| Batch {
            partition: self.log.partition(self.partition),
            fence: 0,
            records,
        }))
    }

    /// Cuts off what was stored at `millis` or later, and ends there.
    fn cut(&mut self, mut batch: Batch, millis: i64) -> Step {
        let keep = batch
            .records
            .partition_point(|record| record.stored_at < millis);
        if keep < batch.records.len() {
            self.next -= (batch.records.len() - keep) as u64;
            self.end = Some(self.next);
            batch.records.truncate(keep);
        }
        if batch.records.is_empty() {
            return Step::Wait;
        }
        Step::Batch(batch)
    }
}

fn wanted(patterns: &[Pattern], topic: &Topic) -> bool {
    patterns.iter().any(|pattern| match pattern.as_exact() {
        Some(name) => name == topic.as_str(),
        None => !topic.is_system() && pattern.matches(topic.as_str()),
    })
}

impl interline_core::Reader for Reader {
    async fn next(&mut self, budget: Budget) -> Result<Option<Batch>> {
        coop::consume_budget().await;
        loop {
            self.link.check_open("read")?;
            let due = self.end_by_clock();
            let mut step = self.step(budget)?;
            if matches!(step, Step::Wait) {
                self.bell.arm();
                // Something may have come, or gone, before the bell was armed.
                for part in &self.parts {
                    part.log.pass_appends()?;
                }
                step = self.step(budget)?;
            }
            match step {
                Step::Batch(batch) => return Ok(Some(batch)),
                Step::Ended => return Ok(None),
                Step::Wait if self.link.is_closed() => {}
                Step::Wait => self.bell.wait(due).await,
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        for part in &self.parts {
            part.log.unlisten(part.partition, &self.bell);
        }
    }
}
