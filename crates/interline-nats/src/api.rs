//! Requests to JetStream: JSON out, JSON in.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::{Message, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use interline_core::{ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::error::{Refusal, broken, denied, error, protocol, request};
use crate::link::Session;

/// What an answer of JetStream is, apart from what was asked for.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    Refused { error: Refusal },
    Given(T),
}

/// Why there is no answer.
pub(crate) enum Failed {
    /// JetStream refuses.
    Refused(Refusal),
    /// Anything else.
    Error(interline_core::Error),
}

impl Failed {
    pub(crate) fn error(self, operation: &'static str) -> interline_core::Error {
        match self {
            Self::Refused(refusal) => refusal.error(operation),
            Self::Error(error) => error,
        }
    }

    pub(crate) fn is(&self, number: u64) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.number == number)
    }
}

impl From<interline_core::Error> for Failed {
    fn from(error: interline_core::Error) -> Self {
        Self::Error(error)
    }
}

impl Session {
    /// Asks JetStream for `what`, which is the subject behind `$JS.API.`.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        what: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, Failed> {
        let mut body = serde_json::to_vec(body).map_err(|cause| protocol(operation, cause))?;
        // Some requests have to be empty, which is how `()` is meant.
        if body == b"null" {
            body.clear();
        }
        let subject = format!("$JS.API.{what}");
        let message = self.request(operation, subject, None, body.into()).await?;
        read(operation, &message.payload)
    }

    /// Sends a request and waits for its answer, for the end of the connection, or for the
    /// server's word that it is not allowed.
    pub(crate) async fn request(
        &self,
        operation: &'static str,
        subject: String,
        headers: Option<async_nats::HeaderMap>,
        body: Bytes,
    ) -> Result<Message> {
        let denials = self.denials();
        let mut asked = async_nats::Request::new().payload(body);
        if let Some(headers) = headers {
            asked = asked.headers(headers);
        }
        let answer = self.client.send_request(subject.clone(), asked);
        tokio::select! {
            biased;
            answer = answer => answer.map_err(|cause| request(operation, cause)),
            what = denial(denials, &subject) => Err(denied(operation, &what)),
            () = self.died() => Err(broken(operation)),
        }
    }

    /// The last message of a subject as it is stored, or nothing. Asked of whichever replica is
    /// near: it may be a little old.
    pub(crate) async fn last(
        &self,
        operation: &'static str,
        stream: &str,
        subject: &str,
    ) -> Result<Option<Stored>> {
        let direct = format!("$JS.API.DIRECT.GET.{stream}.{subject}");
        let message = self.request(operation, direct, None, Bytes::new()).await?;
        match message.status {
            Some(StatusCode::NOT_FOUND) => return Ok(None),
            Some(status) => {
                return Err(error(
                    ErrorKind::Unavailable,
                    operation,
                    format!("the server answers a look-up with status {status}"),
                    "check that the servers are up; it is tried again by itself",
                ));
            }
            None => {}
        }
        let headers = message.headers.as_ref();
        let sequence = headers
            .and_then(|headers| headers.get(async_nats::header::NATS_SEQUENCE))
            .and_then(|value| value.as_str().parse().ok());
        Ok(sequence.map(|sequence| Stored {
            sequence,
            value: message.payload,
        }))
    }
}

/// A stored message.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) sequence: u64,
    pub(crate) value: Bytes,
}

pub(crate) fn read<T: DeserializeOwned>(
    operation: &'static str,
    payload: &[u8],
) -> Result<T, Failed> {
    match serde_json::from_slice(payload) {
        Ok(Answer::Given(given)) => Ok(given),
        Ok(Answer::Refused { error }) => Err(Failed::Refused(error)),
        Err(cause) => Err(protocol(operation, cause).into()),
    }
}

/// Waits until the server says that this subject is not allowed.
async fn denial(mut denials: broadcast::Receiver<std::sync::Arc<str>>, subject: &str) -> String {
    let quoted = format!("\"{subject}\"");
    loop {
        match denials.recv().await {
            Ok(what) if what.contains(&quoted) => return what.as_ref().to_owned(),
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// A stream as it is.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StreamInfo {
    pub(crate) config: StreamConfig,
    /// When it was made: tells it from another one that had its name before.
    pub(crate) created: String,
    pub(crate) state: StreamState,
    /// How many subjects there are, if they were asked for; they come in pages.
    #[serde(default)]
    pub(crate) total: usize,
    /// The server's time.
    #[serde(default)]
    pub(crate) ts: String,
}

/// The settings of a stream that matter here.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StreamConfig {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) subjects: Vec<String>,
    #[serde(default)]
    pub(crate) storage: String,
    #[serde(default)]
    pub(crate) num_replicas: usize,
    /// In nanoseconds; 0 is for ever.
    #[serde(default)]
    pub(crate) max_age: u64,
    #[serde(default)]
    pub(crate) discard: String,
    #[serde(default)]
    pub(crate) max_msgs_per_subject: i64,
    #[serde(default)]
    pub(crate) persist_mode: String,
    #[serde(default)]
    pub(crate) allow_atomic: bool,
    #[serde(default)]
    pub(crate) metadata: HashMap<String, String>,
}

/// What a stream holds.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct StreamState {
    pub(crate) messages: u64,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    /// The messages of each subject, if they were asked for.
    #[serde(default)]
    pub(crate) subjects: HashMap<String, u64>,
}

/// A message as the leader of a stream has it.
#[derive(Debug, Deserialize)]
pub(crate) struct StoredMessage {
    pub(crate) message: TextMessage,
}

/// A message whose bytes are in base64.
#[derive(Debug, Deserialize)]
pub(crate) struct TextMessage {
    pub(crate) seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
    #[serde(default)]
    pub(crate) time: String,
}

impl TextMessage {
    pub(crate) fn headers(&self) -> Vec<u8> {
        STANDARD.decode(&self.hdrs).unwrap_or_default()
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        STANDARD.decode(&self.data).unwrap_or_default()
    }
}

/// One page of stream names.
#[derive(Debug, Deserialize)]
pub(crate) struct StreamNames {
    #[serde(default)]
    pub(crate) total: usize,
    #[serde(default)]
    pub(crate) streams: Option<Vec<String>>,
}

/// A consumer as it is.
#[derive(Debug, Deserialize)]
pub(crate) struct ConsumerInfo {
    pub(crate) delivered: Delivered,
    pub(crate) num_pending: u64,
}

/// How far a consumer has come.
#[derive(Debug, Deserialize)]
pub(crate) struct Delivered {
    pub(crate) stream_seq: u64,
}

/// An answer that is looked at for refusal only.
#[derive(Debug, Deserialize)]
pub(crate) struct Done {}

/// Where a consumer begins.
#[derive(Clone, Debug)]
pub(crate) enum Begin {
    /// At the first message.
    First,
    /// At this sequence.
    At(u64),
    /// At the first message of this time or later.
    Time(String),
    /// At the last message.
    Last,
}

/// A consumer that asks for no acknowledgements and is forgotten when nobody pulls.
pub(crate) fn consumer(
    stream: &str,
    name: &str,
    filter: Option<&str>,
    begin: &Begin,
) -> serde_json::Value {
    /// After which silence the server forgets it. Whoever reads pulls far more often.
    const INACTIVE: Duration = Duration::from_secs(30);
    let mut config = serde_json::json!({
        "name": name,
        "ack_policy": "none",
        "replay_policy": "instant",
        "inactive_threshold": INACTIVE.as_nanos() as u64,
        "num_replicas": 1,
        "mem_storage": true,
    });
    if let Some(filter) = filter {
        config["filter_subject"] = filter.into();
    }
    match begin {
        Begin::First => config["deliver_policy"] = "all".into(),
        Begin::Last => config["deliver_policy"] = "last".into(),
        Begin::At(sequence) => {
            config["deliver_policy"] = "by_start_sequence".into();
            config["opt_start_seq"] = (*sequence).into();
        }
        Begin::Time(time) => {
            config["deliver_policy"] = "by_start_time".into();
            config["opt_start_time"] = time.as_str().into();
        }
    }
    serde_json::json!({ "stream_name": stream, "config": config, "action": "create" })
}
