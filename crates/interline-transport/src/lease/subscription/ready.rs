//! Records that were read ahead.

use std::collections::VecDeque;

use interline_core::{Batch, Budget, Fence, Flow, Partition, Recorded};

/// Records that were read and not yet handed out, in the order of reading.
///
/// At most half a budget and what one read brings; batches of partitions whose flow was stopped
/// after they were read wait apart, since others must not wait behind them.
#[derive(Debug, Default)]
pub(super) struct Ready {
    queue: VecDeque<Weighed>,
    parked: VecDeque<Weighed>,
    events: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Weighed {
    batch: Batch,
    bytes: usize,
}

impl Ready {
    /// Whether it is time to read on.
    pub(super) fn wants_more(&self, budget: Budget) -> bool {
        self.queue.is_empty() || (self.events < budget.events / 2 && self.bytes < budget.bytes / 2)
    }

    /// Adds what was read, and says whether there was nothing before.
    pub(super) fn push(&mut self, batch: Batch) -> bool {
        let bytes = batch.records.iter().map(size).sum();
        let was_empty = self.queue.is_empty();
        self.events += batch.records.len();
        self.bytes += bytes;
        self.queue.push_back(Weighed { batch, bytes });
        was_empty
    }

    /// The next batch whose partition is `read`, at most as much as `budget` allows.
    pub(super) fn pop(
        &mut self,
        budget: Budget,
        read: impl Fn(&Partition, Fence) -> Option<Flow>,
    ) -> Option<Batch> {
        while let Some(weighed) = self.queue.pop_front() {
            self.events -= weighed.batch.records.len();
            self.bytes -= weighed.bytes;
            match read(&weighed.batch.partition, weighed.batch.fence) {
                Some(Flow::Open) => return Some(self.cut(weighed, budget)),
                Some(Flow::Stopped) => self.parked.push_back(weighed),
                None => {}
            }
        }
        None
    }

    /// Puts back what goes beyond the budget of this call: it was read for another one.
    fn cut(&mut self, weighed: Weighed, budget: Budget) -> Batch {
        let Weighed { mut batch, bytes } = weighed;
        if batch.records.len() <= budget.events && bytes <= budget.bytes {
            return batch;
        }
        let mut taken = 0;
        let fits = |record: &&Recorded| {
            taken += size(record);
            taken <= budget.bytes
        };
        let fits = batch.records.iter().take_while(fits).count();
        let rest = batch
            .records
            .split_off(fits.min(budget.events).clamp(1, batch.records.len()));
        if !rest.is_empty() {
            self.push_front(Batch {
                partition: batch.partition.clone(),
                fence: batch.fence,
                records: rest,
            });
        }
        batch
    }

    fn push_front(&mut self, batch: Batch) {
        let bytes = batch.records.iter().map(size).sum();
        self.events += batch.records.len();
        self.bytes += bytes;
        self.queue.push_front(Weighed { batch, bytes });
    }

    /// The flow of a partition goes on: what waited of it comes before what was read since.
    pub(super) fn unpark(&mut self, partition: &Partition) {
        for at in (0..self.parked.len()).rev() {
            if self.parked[at].batch.partition == *partition
                && let Some(weighed) = self.parked.remove(at)
            {
                self.events += weighed.batch.records.len();
                self.bytes += weighed.bytes;
                self.queue.push_front(weighed);
            }
        }
    }

    /// A partition is owned no more: nothing of it waits for its flow.
    pub(super) fn forget(&mut self, partition: &Partition) {
        self.parked
            .retain(|weighed| weighed.batch.partition != *partition);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn size(record: &Recorded) -> usize {
    record.envelope.size()
}
