//! Receiving in batches.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;

use super::{bytes, result};

/// Room for the pointers of one batch, reused from batch to batch; empty in between.
#[derive(Default)]
pub(crate) struct Buffer(pub(super) Vec<*mut sys::rd_kafka_message_t>);

// SAFETY: the vector holds pointers only while a `Messages` borrows it, and `Messages` is not
// `Send`; in between it is an empty allocation.
unsafe impl Send for Buffer {}

/// A batch of messages, given back to librdkafka when it is dropped.
pub(crate) struct Messages<'b>(pub(super) &'b mut Vec<*mut sys::rd_kafka_message_t>);

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
