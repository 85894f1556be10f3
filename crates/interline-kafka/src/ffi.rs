//! What rdkafka does not offer, called directly in librdkafka: a commit with a result per
//! partition, receiving in batches from the queue of one partition, the exact status of a
//! delivery, commit metadata as bytes, and asking where many groups and partitions stand at once.
//! The only unsafe code of the workspace.
#![expect(
    unsafe_code,
    reason = "librdkafka functions that rdkafka 0.39 has no safe form of; each call says why it holds"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

use crate::wake::Bell;

/// A queue of a consumer. It keeps the consumer alive, since librdkafka wants every queue
/// destroyed before its client.
pub(crate) struct Queue<C: ConsumerContext> {
    queue: NonNull<sys::rd_kafka_queue_t>,
    bell: Arc<Bell>,
    consumer: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's queues may be used from any thread; the reference count is atomic and
// every operation locks. The bell and the consumer are `Send` themselves.
unsafe impl<C: ConsumerContext> Send for Queue<C> {}

impl<C: ConsumerContext> Queue<C> {
    /// The queue of one partition, cut off from the consumer's common queue. To be called before
    /// the partition is assigned: what was fetched earlier went to the common queue.
    pub(crate) fn of_partition(
        consumer: &Arc<BaseConsumer<C>>,
        topic: &str,
        partition: i32,
        bell: Arc<Bell>,
    ) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        let client = consumer.client().native_ptr();
        // SAFETY: the client is alive (`consumer` is borrowed), the name is NUL-terminated and
        // copied by the call. The result is null or a new reference that `Drop` gives back.
        let queue = unsafe { sys::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition) };
        let queue = Self::own(queue, consumer, bell)?;
        // SAFETY: the queue is alive; null as destination ends the forwarding.
        unsafe { sys::rd_kafka_queue_forward(queue.queue.as_ptr(), ptr::null_mut()) };
        Some(queue)
    }

    /// A queue of its own for the results of commits.
    pub(crate) fn for_commits(consumer: &Arc<BaseConsumer<C>>, bell: Arc<Bell>) -> Option<Self> {
        // SAFETY: the client is alive; the result is a new reference that `Drop` gives back.
        let queue = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        Self::own(queue, consumer, bell)
    }

    /// The consumer's common queue: rebalances, errors, log lines.
    pub(crate) fn common(consumer: &Arc<BaseConsumer<C>>, bell: Arc<Bell>) -> Option<Self> {
        // SAFETY: as for `for_commits`.
        let queue = unsafe { sys::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
        Self::own(queue, consumer, bell)
    }

    fn own(
        queue: *mut sys::rd_kafka_queue_t,
        consumer: &Arc<BaseConsumer<C>>,
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
            consumer: Arc::clone(consumer),
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

    /// Starts to commit `offsets`; the answer comes out of [`committed`](Self::committed).
    ///
    /// # Errors
    /// When librdkafka does not take the request; no answer follows.
    pub(crate) fn commit(&self, offsets: &TopicPartitionList) -> Result<(), RDKafkaErrorCode> {
        let client = self.consumer.client().native_ptr();
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

impl<C: ConsumerContext> Drop for Queue<C> {
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

/// Room for the pointers of one batch, reused from batch to batch; empty in between.
#[derive(Default)]
pub(crate) struct Buffer(Vec<*mut sys::rd_kafka_message_t>);

// SAFETY: the vector holds pointers only while a `Messages` borrows it, and `Messages` is not
// `Send`; in between it is an empty allocation.
unsafe impl Send for Buffer {}

/// A batch of messages, given back to librdkafka when it is dropped.
pub(crate) struct Messages<'b>(&'b mut Vec<*mut sys::rd_kafka_message_t>);

impl Messages<'_> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        self.0.iter().map(|message| Message {
            message: *message,
            batch: PhantomData,
        })
    }

    /// Calls `f` with each message in order and gives it back at once: the small pieces of
    /// memory that make up its headers are then taken again for the next one. Given back
    /// together at the end they cost the allocator more than all else that is done here.
    pub(crate) fn for_each(self, mut f: impl FnMut(Message<'_>)) {
        for slot in self.0.iter_mut() {
            let message = Owned(std::mem::replace(slot, ptr::null_mut()));
            f(Message {
                message: message.0,
                batch: PhantomData,
            });
        }
    }
}

impl Drop for Messages<'_> {
    fn drop(&mut self) {
        self.0
            .drain(..)
            .filter(|m| !m.is_null())
            .for_each(|message| drop(Owned(message)));
    }
}

/// A message that nobody else gives back; never null.
struct Owned(*mut sys::rd_kafka_message_t);

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Queue::receive` and was taken out of its `Messages`, so
        // this is its only destruction. Nothing borrowed from it outlives `self`.
        unsafe { sys::rd_kafka_message_destroy(self.0) };
    }
}

/// One message of a batch, or the error that stands in its place.
#[derive(Clone, Copy)]
pub(crate) struct Message<'m> {
    message: *mut sys::rd_kafka_message_t,
    batch: PhantomData<&'m ()>,
}

impl<'m> Message<'m> {
    fn get(self) -> &'m sys::rd_kafka_message_t {
        // SAFETY: the message is alive for `'m`, which ends before its `Owned` is dropped, and
        // nobody writes to these fields.
        unsafe { &*self.message }
    }

    pub(crate) fn error(self) -> Option<RDKafkaErrorCode> {
        result(self.get().err).err()
    }

    /// The text of an error, which librdkafka puts where the payload would be.
    pub(crate) fn error_text(self) -> String {
        String::from_utf8_lossy(self.payload().unwrap_or_default()).into_owned()
    }

    pub(crate) fn offset(self) -> i64 {
        self.get().offset
    }

    pub(crate) fn key(self) -> Option<&'m [u8]> {
        let message = self.get();
        // SAFETY: librdkafka gives null or `key_len` bytes that live as long as the message.
        unsafe { bytes(message.key, message.key_len) }
    }

    pub(crate) fn payload(self) -> Option<&'m [u8]> {
        let message = self.get();
        // SAFETY: as for the key.
        unsafe { bytes(message.payload, message.len) }
    }

    /// Milliseconds since 1970; -1 if the message has no time.
    pub(crate) fn timestamp(self) -> i64 {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive; `kind` is written.
        unsafe { sys::rd_kafka_message_timestamp(self.message, &mut kind) }
    }

    /// Names and values of the headers in order; a header without value counts as empty.
    pub(crate) fn headers(self) -> Headers<'m> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive. The list belongs to it; librdkafka parses it at the first
        // call, on this thread, and never moves it.
        let code = unsafe { sys::rd_kafka_message_headers(self.message, &mut headers) };
        Headers {
            headers: result(code).ok().and_then(|()| NonNull::new(headers)),
            next: 0,
            message: PhantomData,
        }
    }
}

/// The headers of a message.
#[derive(Clone)]
pub(crate) struct Headers<'m> {
    headers: Option<NonNull<sys::rd_kafka_headers_t>>,
    next: usize,
    message: PhantomData<&'m ()>,
}

impl<'m> Iterator for Headers<'m> {
    type Item = (&'m [u8], &'m [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let headers = self.headers?.as_ptr();
        let mut name: *const c_char = ptr::null();
        let mut value: *const c_void = ptr::null();
        let mut size = 0;
        // SAFETY: the list is alive; an index past its end is answered with an error. Name
        // (NUL-terminated) and value live as long as the message.
        unsafe {
            let next = self.next;
            let code =
                sys::rd_kafka_header_get_all(headers, next, &mut name, &mut value, &mut size);
            result(code).ok()?;
            self.next += 1;
            let value = bytes(value, size).unwrap_or_default();
            Some((CStr::from_ptr(name).to_bytes(), value))
        }
    }
}

/// # Safety
/// `start` is null or points to `length` bytes that stay unchanged for `'m`.
unsafe fn bytes<'m>(start: *const c_void, length: usize) -> Option<&'m [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: by the contract of this function.
    Some(unsafe { slice::from_raw_parts(start.cast(), length) })
}

/// # Safety
/// `list` is null or points to a list that stays unchanged for `'l`.
unsafe fn elements<'l>(
    list: *const sys::rd_kafka_topic_partition_list_t,
) -> &'l [sys::rd_kafka_topic_partition_t] {
    // SAFETY: by the contract of this function; `elems` is null only while `cnt` is 0.
    unsafe {
        match list.as_ref() {
            Some(list) if list.cnt > 0 => {
                slice::from_raw_parts(list.elems, usize::try_from(list.cnt).unwrap_or(0))
            }
            _ => &[],
        }
    }
}

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

/// The commit metadata of a partition: whatever bytes some client stored there. The safe form
/// panics on bytes that are not UTF-8.
pub(crate) fn metadata(list: &TopicPartitionList, topic: &str, partition: i32) -> Vec<u8> {
    // SAFETY: the list is alive and borrowed for the whole call; metadata is null or as long as
    // it says.
    unsafe {
        elements(list.ptr())
            .iter()
            .find(|element| {
                element.partition == partition
                    && CStr::from_ptr(element.topic).to_bytes() == topic.as_bytes()
            })
            .and_then(|element| bytes(element.metadata, element.metadata_size))
            .map(<[u8]>::to_vec)
            .unwrap_or_default()
    }
}

/// What a delivery report knows about its message, beyond the error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It was never sent, or the broker refused it.
    NotPersisted,
    /// It was sent and no answer came.
    PossiblyPersisted,
    /// The broker acknowledged it.
    Persisted,
}

/// The status of a message in a delivery report.
pub(crate) fn delivery_status(message: &BorrowedMessage<'_>) -> Status {
    use sys::rd_kafka_msg_status_t as Native;
    // SAFETY: the message is alive while it is borrowed.
    match unsafe { sys::rd_kafka_message_status(message.ptr()) } {
        Native::RD_KAFKA_MSG_STATUS_NOT_PERSISTED => Status::NotPersisted,
        Native::RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED => Status::PossiblyPersisted,
        Native::RD_KAFKA_MSG_STATUS_PERSISTED => Status::Persisted,
    }
}

/// Gives a client that serves no events its SASL/OAUTHBEARER token.
///
/// # Errors
/// librdkafka's words when it refuses the token.
pub(crate) fn set_token<C: ClientContext>(
    client: &Client<C>,
    token: &str,
    principal: &str,
    expires_ms: i64,
) -> Result<(), String> {
    let zero = |_| "the token or principal holds a zero byte".to_owned();
    let token = CString::new(token).map_err(zero)?;
    let principal = CString::new(principal).map_err(zero)?;
    let mut text = [0; 256];
    // SAFETY: the client is alive, both strings are NUL-terminated and copied by the call, no
    // extensions are given, and at most `text.len()` bytes are written, NUL-terminated.
    unsafe {
        let code = sys::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            token.as_ptr(),
            expires_ms,
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            text.as_mut_ptr(),
            text.len(),
        );
        result(code).map_err(|_| CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned())
    }
}

fn result(code: Code) -> Result<(), RDKafkaErrorCode> {
    match code {
        Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(code.into()),
    }
}
