//! The task that reads ahead.

use std::sync::Arc;

use super::shared::{Shared, Turn};
use crate::lease::{Order, Source};

/// Reads owned partitions while there is room, until the membership ends.
pub(super) async fn run(shared: Arc<Shared>, mut source: impl Source) {
    while let Some(Turn { orders, budget }) = shared.turn() {
        for order in orders {
            match order {
                Order::Open(partition, fence, after) => source.open(&partition, fence, after),
                Order::Close(partition) => source.close(&partition),
                Order::Flow(partition, flow) => source.flow(&partition, flow),
            }
        }
        let Some(budget) = budget else {
            shared.reader.notified().await;
            continue;
        };
        tokio::select! {
            biased;
            () = shared.reader.notified() => {}
            read = source.next(budget) => shared.read(read),
        }
    }
}
