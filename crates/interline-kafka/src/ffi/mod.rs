//! What rdkafka does not offer, called directly in librdkafka: a commit with a result per
//! partition, receiving in batches from the queue of one partition, the exact status of a
//! delivery, commit metadata as bytes, and asking where many groups and partitions stand at once.
//! The only unsafe code of the workspace.
#![expect(
    unsafe_code,
    reason = "librdkafka functions that rdkafka 0.39 has no safe form of; each call says why it holds"
)]

mod inquiry;
mod message;
mod queue;

use std::ffi::{CStr, CString, c_void};
use std::{ptr, slice};

use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;
#[cfg(feature = "it")]
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka_sys as sys;
use rdkafka_sys::rd_kafka_resp_err_t as Code;

pub(crate) use self::inquiry::{Inquiry, Place};
pub(crate) use self::message::{Buffer, Message, Messages};
pub(crate) use self::queue::{Native, Queue};

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

/// Lets a producer meet a fatal error, as if the broker did not know its sequence any more.
#[cfg(feature = "it")]
pub(crate) fn break_for_good<C: ProducerContext>(producer: &BaseProducer<C>) {
    let client = producer.client().native_ptr();
    let code = Code::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    // SAFETY: the client is alive, the reason is NUL-terminated and copied. The answer only says
    // whether it was broken already.
    unsafe { sys::rd_kafka_test_fatal_error(client, code, c"a test".as_ptr()) };
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
