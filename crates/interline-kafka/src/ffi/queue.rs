//! The queues of a client.

use std::ffi::{CStr, CString, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka_sys as sys;

use super::message::{Buffer, Messages};
use super::{elements, result};
use crate::wake::Bell;

/// A client that can be shared among threads.
pub(crate) trait Native: Send + Sync {
    fn native(&self) -> *mut sys::rd_kafka_t;
}

impl<C: ConsumerContext> Native for BaseConsumer<C> {
    fn native(&self) -> *mut sys::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext> Native for BaseProducer<C> {
    fn native(&self) -> *mut sys::rd_kafka_t {
        self.client().native_ptr()
    }
}

/// A queue of a client. It keeps the client alive, since librdkafka wants every queue destroyed
/// before its client.
pub(crate) struct Queue {
    queue: NonNull<sys::rd_kafka_queue_t>,
    bell: Arc<Bell>,
    client: Arc<dyn Native>,
}

// SAFETY: librdkafka's queues may be used from any thread; the reference count is atomic and
// every operation locks. The bell and the client are `Send` themselves.
unsafe impl Send for Queue {}

impl Queue {
    /// The queue of one partition, cut off from the consumer's common queue. To be called before
    /// the partition is assigned: what was fetched earlier went to the common queue.
    pub(crate) fn of_partition(
        consumer: Arc<dyn Native>,
        topic: &str,
        partition: i32,
        bell: Arc<Bell>,
    ) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        let client = consumer.native();
        // SAFETY: the client is alive (`consumer` keeps it), the name is NUL-terminated and
        // copied by the call. The result is null or a new reference that `Drop` gives back.
        let queue = unsafe { sys::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition) };
        let queue = Self::own(queue, consumer, bell)?;
        // SAFETY: the queue is alive; null as destination ends the forwarding.
        unsafe { sys::rd_kafka_queue_forward(queue.queue.as_ptr(), ptr::null_mut()) };
        Some(queue)
    }

    /// A queue of its own for the results of commits.
    pub(crate) fn for_commits(consumer: Arc<dyn Native>, bell: Arc<Bell>) -> Option<Self> {
        // SAFETY: the client is alive; the result is a new reference that `Drop` gives back.
        let queue = unsafe { sys::rd_kafka_queue_new(consumer.native()) };
        Self::own(queue, consumer, bell)
    }

    /// The consumer's common queue: rebalances, errors, log lines.
    pub(crate) fn common(consumer: Arc<dyn Native>, bell: Arc<Bell>) -> Option<Self> {
        // SAFETY: as for `for_commits`.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(consumer.native()) };
        Self::own(queue, consumer, bell)
    }

    /// The queue that a producer's `poll` serves: deliveries, errors, log lines.
    pub(crate) fn of_producer(producer: Arc<dyn Native>, bell: Arc<Bell>) -> Option<Self> {
        // SAFETY: as for `for_commits`.
        let queue = unsafe { sys::rd_kafka_queue_get_main(producer.native()) };
        Self::own(queue, producer, bell)
    }

    fn own(
        queue: *mut sys::rd_kafka_queue_t,
        client: Arc<dyn Native>,
        bell: Arc<Bell>,
    ) -> Option<Self> {
        let queue = NonNull::new(queue)?;
        let opaque = Arc::as_ptr(&bell).cast_mut().cast::<c_void>();
        // SAFETY: the queue is alive. `opaque` stays valid until `Drop` unsets the callback,
        // because `bell` is dropped after it; setting, unsetting and calling the callback all
        // happen under the lock of the queue.
        unsafe { sys::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(ring), opaque) };
        Some(Self {
            queue,
            bell,
            client,
        })
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// How many events wait.
    pub(crate) fn len(&self) -> usize {
        // SAFETY: the queue is alive.
        unsafe { sys::rd_kafka_queue_length(self.queue.as_ptr()) }
    }

    /// Takes at most `room` messages that wait, without waiting for more.
    pub(crate) fn receive<'b>(&self, room: usize, buffer: &'b mut Buffer) -> Messages<'b> {
        buffer.0.clear();
        buffer.0.reserve(room);
        // SAFETY: the queue is alive, and `buffer` has room for `room` pointers, of which the
        // call initialises as many as it returns; a negative result means none.
        unsafe {
            let start = buffer.0.as_mut_ptr();
            let queue = self.queue.as_ptr();
            let count = sys::rd_kafka_consume_batch_queue(queue, 0, start, room);
            buffer.0.set_len(usize::try_from(count).unwrap_or(0));
        }
        Messages(&mut buffer.0)
    }

    /// From now on what comes goes where nobody reads it.
    #[cfg(feature = "it")]
    pub(crate) fn stall(&self) {
        // SAFETY: client and queue are alive, and the forwarding has a reference of its own to
        // the new queue.
        unsafe {
            let nowhere = sys::rd_kafka_queue_new(self.client.native());
            sys::rd_kafka_queue_forward(self.queue.as_ptr(), nowhere);
            sys::rd_kafka_queue_destroy(nowhere);
        }
    }

    /// Starts to commit `offsets`; the answer comes out of [`committed`](Self::committed).
    ///
    /// # Errors
    /// When librdkafka does not take the request; no answer follows.
    pub(crate) fn commit(&self, offsets: &TopicPartitionList) -> Result<(), RDKafkaErrorCode> {
        let client = self.client.native();
        // SAFETY: client, list and queue are alive; librdkafka copies the list. Without a
        // callback the answer is an event in the queue and the opaque is not used.
        let code = unsafe {
            let queue = self.queue.as_ptr();
            sys::rd_kafka_commit_queue(client, offsets.ptr(), queue, None, ptr::null_mut())
        };
        result(code)
    }

    /// The answer to a commit, if one is there: a result for each partition.
    pub(crate) fn committed(&self) -> Option<Vec<PartitionResult>> {
        // SAFETY: the queue is alive. The event is null or ours until it is destroyed below; the
        // list belongs to the event and is read before that.
        unsafe {
            let event = sys::rd_kafka_queue_poll(self.queue.as_ptr(), 0);
            if event.is_null() {
                return None;
            }
            let code = sys::rd_kafka_event_error(event);
            let list = sys::rd_kafka_event_topic_partition_list(event);
            let results = elements(list)
                .iter()
                .map(|element| PartitionResult {
                    topic: CStr::from_ptr(element.topic).to_string_lossy().into_owned(),
                    partition: element.partition,
                    // A request that failed as a whole says so only once.
                    result: result(element.err).and_then(|()| result(code)),
                })
                .collect();
            sys::rd_kafka_event_destroy(event);
            Some(results)
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the queue is alive until the second call, which gives back the reference taken
        // when it was made. The first call waits for a running callback (see `own`).
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// What became of the commit of one partition.
#[derive(Debug)]
pub(crate) struct PartitionResult {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) result: Result<(), RDKafkaErrorCode>,
}

unsafe extern "C" fn ring(_client: *mut sys::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: `opaque` is the bell that `Queue::own` registered and keeps alive.
    let bell = unsafe { &*opaque.cast::<Bell>() };
    bell.ring();
}
