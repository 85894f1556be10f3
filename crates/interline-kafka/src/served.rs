//! A producer whose deliveries, errors and log lines one thread takes.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, ProducerContext};

use crate::ffi::{Native, Queue};
use crate::wake::{Bell, Wake};

/// A producer, served by the thread that made this.
///
/// Not by a `poll` that waits: as it counts in whole milliseconds, it spins through the last one
/// of its time, which is a hundredth of a core at ten waits a second.
pub(crate) struct Served<C: ProducerContext + 'static> {
    producer: Arc<BaseProducer<C>>,
    /// Nothing only if there was no memory for it: what comes is then found late.
    queue: Option<Queue>,
    wake: Wake,
}

impl<C: ProducerContext + 'static> Served<C> {
    pub(crate) fn new(producer: Arc<BaseProducer<C>>) -> Self {
        let wake = Wake::current();
        let native: Arc<dyn Native> = Arc::<BaseProducer<C>>::clone(&producer);
        Self {
            queue: Queue::of_producer(native, Arc::new(Bell::new(&wake))),
            producer,
            wake,
        }
    }

    pub(crate) fn producer(&self) -> &BaseProducer<C> {
        &self.producer
    }

    /// Takes everything that is there.
    pub(crate) fn take_all(&self) {
        loop {
            self.producer.poll(Duration::ZERO);
            if self.queue.as_ref().is_none_or(|queue| queue.len() == 0) {
                return;
            }
        }
    }

    /// Waits until something is there, at most `timeout`.
    pub(crate) fn wait(&self, timeout: Duration) {
        self.wake.wait(timeout);
    }
}
