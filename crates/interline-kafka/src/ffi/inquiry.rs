//! Asking where many groups and partitions stand at once.

use std::ffi::{CStr, CString, c_int};
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka_sys as sys;

use super::{bytes, elements, result};

/// Questions to the cluster that are on their way together, and their answers as they come.
pub(crate) struct Inquiry<'c, C: ClientContext> {
    queue: NonNull<sys::rd_kafka_queue_t>,
    client: &'c Client<C>,
    timeout: c_int,
}

/// What an answer says of one partition.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Negative if there is none.
    pub(crate) offset: i64,
    pub(crate) metadata: Vec<u8>,
    pub(crate) result: Result<(), RDKafkaErrorCode>,
}

impl<'c, C: ClientContext> Inquiry<'c, C> {
    /// Each question gets an answer within about `timeout`, if only that there is none.
    pub(crate) fn new(client: &'c Client<C>, timeout: Duration) -> Option<Self> {
        // SAFETY: the client is alive; the result is null or a reference that `Drop` gives back.
        let queue = unsafe { sys::rd_kafka_queue_new(client.native_ptr()) };
        Some(Self {
            queue: NonNull::new(queue)?,
            client,
            timeout: c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX),
        })
    }

    /// Asks for every place that `group` has stored; `number` comes back with the answer.
    pub(crate) fn ask_places(&self, group: &str, number: usize) {
        let Ok(group) = CString::new(group) else {
            return;
        };
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
        self.with_options(kind, number, |options| {
            // SAFETY: client, options and queue are alive, the name is NUL-terminated, and no
            // list means all partitions. The call copies what it is given, and the question is
            // destroyed once, after it.
            unsafe {
                let mut question =
                    sys::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), ptr::null());
                let client = self.client.native_ptr();
                let queue = self.queue.as_ptr();
                sys::rd_kafka_ListConsumerGroupOffsets(client, &mut question, 1, options, queue);
                sys::rd_kafka_ListConsumerGroupOffsets_destroy(question);
            }
        });
    }

    /// Asks for the offsets at the ends of partitions, for each the one that stands with it:
    /// `Offset::Beginning` or `Offset::End`.
    pub(crate) fn ask_ends(&self, ends: &TopicPartitionList, number: usize) {
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS;
        self.with_options(kind, number, |options| {
            let level = sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED;
            // SAFETY: client, options, list and queue are alive; the call copies the list. The
            // level is one of those that the option takes, so no error is made.
            unsafe {
                sys::rd_kafka_AdminOptions_set_isolation_level(options, level);
                let client = self.client.native_ptr();
                sys::rd_kafka_ListOffsets(client, ends.ptr(), options, self.queue.as_ptr());
            }
        });
    }

    fn with_options(
        &self,
        kind: sys::rd_kafka_admin_op_t,
        number: usize,
        ask: impl FnOnce(*mut sys::rd_kafka_AdminOptions_t),
    ) {
        // SAFETY: the client is alive; the options are destroyed once, after the question that
        // copies them. The opaque is a number and never followed as a pointer; a refused timeout
        // (the text of which is not wanted) leaves the client's default.
        unsafe {
            let options = sys::rd_kafka_AdminOptions_new(self.client.native_ptr(), kind);
            let (text, size) = (ptr::null_mut(), 0);
            sys::rd_kafka_AdminOptions_set_request_timeout(options, self.timeout, text, size);
            sys::rd_kafka_AdminOptions_set_opaque(options, ptr::without_provenance_mut(number));
            ask(options);
            sys::rd_kafka_AdminOptions_destroy(options);
        }
    }

    /// The next answer, with the number of its question; nothing if none came in time. Blocks.
    pub(crate) fn answer(&self) -> Option<(usize, Result<Vec<Place>, RDKafkaErrorCode>)> {
        // Beyond the timeout of the questions: they answer by themselves that it is over.
        let wait = self.timeout.saturating_add(1_000);
        // SAFETY: the queue is alive. The event is null or ours until it is destroyed; what it
        // holds is copied before that.
        unsafe {
            let event = sys::rd_kafka_queue_poll(self.queue.as_ptr(), wait);
            if event.is_null() {
                return None;
            }
            let number = sys::rd_kafka_event_opaque(event).addr();
            let code = result(sys::rd_kafka_event_error(event));
            let answer = code.and_then(|()| places(event));
            sys::rd_kafka_event_destroy(event);
            Some((number, answer))
        }
    }
}

impl<C: ClientContext> Drop for Inquiry<'_, C> {
    fn drop(&mut self) {
        // SAFETY: this gives back the reference taken in `new`; answers that still come are
        // dropped by librdkafka.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// # Safety
/// `event` is alive.
unsafe fn places(event: *mut sys::rd_kafka_event_t) -> Result<Vec<Place>, RDKafkaErrorCode> {
    // SAFETY: an event that is no such result gives null; arrays, groups and partitions belong
    // to the event, and arrays are as long as their calls say.
    unsafe {
        let mut count = 0;
        let groups = sys::rd_kafka_event_ListConsumerGroupOffsets_result(event);
        if !groups.is_null() {
            let groups = sys::rd_kafka_ListConsumerGroupOffsets_result_groups(groups, &mut count);
            let mut places = Vec::new();
            for group in array(groups, count) {
                let error = sys::rd_kafka_group_result_error(*group);
                if !error.is_null() {
                    result(sys::rd_kafka_error_code(error))?;
                }
                let list = sys::rd_kafka_group_result_partitions(*group);
                places.extend(elements(list).iter().map(|element| place(element)));
            }
            return Ok(places);
        }
        let ends = sys::rd_kafka_event_ListOffsets_result(event);
        if ends.is_null() {
            return Err(RDKafkaErrorCode::InvalidArgument);
        }
        let ends = sys::rd_kafka_ListOffsets_result_infos(ends, &mut count);
        let place =
            |end: &*const _| place(&*sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*end));
        Ok(array(ends, count).iter().map(place).collect())
    }
}

/// # Safety
/// Name and metadata of `element` are what librdkafka filled in.
unsafe fn place(element: &sys::rd_kafka_topic_partition_t) -> Place {
    // SAFETY: the name is NUL-terminated; metadata is null or as long as it says.
    unsafe {
        let metadata = bytes(element.metadata, element.metadata_size);
        Place {
            topic: CStr::from_ptr(element.topic).to_string_lossy().into_owned(),
            partition: element.partition,
            offset: element.offset,
            metadata: metadata.unwrap_or_default().to_vec(),
            result: result(element.err),
        }
    }
}

/// # Safety
/// `start` is null or points to `count` elements that stay unchanged for `'a`.
unsafe fn array<'a, T>(start: *const T, count: usize) -> &'a [T] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: by the contract of this function.
    unsafe { slice::from_raw_parts(start, count) }
}
