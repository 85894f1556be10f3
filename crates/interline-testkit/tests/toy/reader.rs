//! Reading without a group.

use interline_core::{Batch, Budget, Error, Partition, Reader, Result};
use tokio::sync::watch;

use super::transport::{Toy, cut};

#[derive(Debug)]
pub(crate) struct ToyReader {
    toy: Toy,
    places: Vec<(Partition, usize, usize)>,
    changes: watch::Receiver<u64>,
}

impl ToyReader {
    /// Reads each partition from a place to an end.
    pub(crate) fn new(toy: Toy, places: Vec<(Partition, usize, usize)>) -> Self {
        let changes = toy.shared.changes.subscribe();
        Self {
            toy,
            places,
            changes,
        }
    }
}

impl Reader for ToyReader {
    async fn next(&mut self, budget: Budget) -> Result<Option<Batch>> {
        loop {
            self.changes.borrow_and_update();
            self.toy.open("read")?;
            for (partition, next, end) in &mut self.places {
                let data = self.toy.shared.lock();
                let records = cut(data.partition(partition)?, *next, *end, budget);
                if !records.is_empty() {
                    *next += records.len();
                    let partition = partition.clone();
                    return Ok(Some(Batch {
                        partition,
                        fence: 0,
                        records: records.into(),
                    }));
                }
            }
            if self.places.iter().all(|(_, next, end)| next >= end) {
                return Ok(None);
            }
            if self.changes.changed().await.is_err() {
                return Err(Error::closed("read"));
            }
        }
    }
}
