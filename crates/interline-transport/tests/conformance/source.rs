//! Reading owned partitions, each by a reader of its topic.

use std::fmt;

use futures_util::future::{pending, select_all};
use interline_core::{
    Batch, Budget, Fence, Flow, Partition, Pattern, Position, ReadSpec, Reader as _, Result, Start,
    Transport as _, Until,
};

pub(crate) struct Source {
    memory: interline_memory::Transport,
    open: Vec<Open>,
}

struct Open {
    partition: Partition,
    fence: Fence,
    after: Option<Position>,
    flow: Flow,
    reader: Option<interline_memory::native::Reader>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = self.open.iter().map(|open| &open.partition);
        f.debug_list().entries(open).finish()
    }
}

impl Source {
    pub(crate) fn new(memory: interline_memory::Transport) -> Self {
        Self {
            memory,
            open: Vec::new(),
        }
    }
}

impl Open {
    async fn next(
        &mut self,
        memory: &interline_memory::Transport,
        budget: Budget,
    ) -> Result<Batch> {
        loop {
            let reader = match &mut self.reader {
                Some(reader) => reader,
                none => {
                    let place = self.after.map(|after| (self.partition.clone(), after));
                    let reading = memory.read(ReadSpec {
                        topics: vec![Pattern::exact(self.partition.topic.as_str())],
                        start: Start::At(place.into_iter().collect()),
                        until: Until::Forever,
                    });
                    none.insert(reading.await?)
                }
            };
            // Records of other partitions are read by others.
            if let Some(batch) = reader.next(budget).await?
                && batch.partition == self.partition
            {
                return Ok(Batch {
                    fence: self.fence,
                    ..batch
                });
            }
        }
    }
}

impl interline_transport::lease::Source for Source {
    fn open(&mut self, partition: &Partition, fence: Fence, after: Option<Position>) {
        self.open.push(Open {
            partition: partition.clone(),
            fence,
            after,
            flow: Flow::Open,
            reader: None,
        });
    }

    fn close(&mut self, partition: &Partition) {
        self.open.retain(|open| open.partition != *partition);
    }

    fn flow(&mut self, partition: &Partition, flow: Flow) {
        let mut open = self.open.iter_mut();
        if let Some(open) = open.find(|open| open.partition == *partition) {
            open.flow = flow;
        }
    }

    async fn next(&mut self, budget: Budget) -> Result<Batch> {
        // Whoever was served last comes last.
        let batch = {
            let open = self.open.iter_mut().filter(|open| open.flow == Flow::Open);
            let next = open.map(|open| Box::pin(open.next(&self.memory, budget)));
            let next: Vec<_> = next.collect();
            if next.is_empty() {
                return pending().await;
            }
            select_all(next).await.0?
        };
        if let Some(at) = self
            .open
            .iter()
            .position(|o| o.partition == batch.partition)
        {
            let served = self.open.remove(at);
            self.open.push(served);
        }
        Ok(batch)
    }
}
