//! The producer of a publisher, and the thread that serves it.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use interline_core::{Durability, Envelope, Error, ErrorKind, Outcome, Position, Result, planted};
use interline_transport::wire::{Style, for_each_header};
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig,
};
use rdkafka::{ClientConfig, ClientContext};

use super::ledger::Ledger;
use crate::error::kafka;
use crate::ffi::{self, Status};
use crate::monitor::Watch;
use crate::served::Served;

/// How often the thread looks whether it is still needed.
const LOOK: Duration = Duration::from_millis(100);

/// Room for the headers of most events.
const HEADERS: usize = 10;

/// What deliveries are reported to.
#[derive(Clone)]
pub(super) struct Deliveries {
    pub(super) watch: Watch,
    pub(super) ledger: Arc<Ledger>,
    pub(super) durability: Arc<RwLock<HashMap<String, Durability>>>,
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.watch.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.watch.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn StdError>> {
        self.watch.generate_oauth_token(config)
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: usize) {
        let outcome = match result {
            Ok(message) => Outcome::Stored {
                partition: message.partition().cast_unsigned(),
                position: Position::from(message.offset().cast_unsigned()),
                durability: self.durability(message.topic()),
            },
            Err((error, message)) => {
                let error = kafka("publish", error);
                // The code alone does not tell: a timeout may come before or after sending.
                match ffi::delivery_status(message) {
                    Status::NotPersisted => Outcome::Rejected(error),
                    Status::PossiblyPersisted | Status::Persisted => {
                        Outcome::Unknown(error.ambiguous())
                    }
                }
            }
        };
        self.ledger.settle(tag, outcome);
    }
}

impl Deliveries {
    fn durability(&self, name: &str) -> Durability {
        let known = self
            .durability
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        known.get(name).copied().unwrap_or(Durability::Process)
    }
}

/// A producer that is replaced when it breaks for good, and the thread that takes deliveries.
pub(super) struct Session {
    config: ClientConfig,
    context: Deliveries,
    producer: RwLock<Arc<BaseProducer<Deliveries>>>,
    stopped: AtomicBool,
    /// Whether the thread goes on only until everything on its way has an outcome.
    ending: AtomicBool,
    ended: AtomicBool,
}

impl Session {
    pub(super) fn start(config: ClientConfig, context: Deliveries) -> Result<Arc<Self>> {
        let producer = create(&config, &context)?;
        let session = Arc::new(Self {
            config,
            context,
            producer: RwLock::new(Arc::new(producer)),
            stopped: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let served = Arc::clone(&session);
        thread::Builder::new()
            .name("interline-kafka-publish".to_owned())
            .spawn(move || {
                served.serve();
                served.ended.store(true, Ordering::Release);
            })
            .map_err(|cause| {
                Error::new(
                    ErrorKind::Unavailable,
                    "publish",
                    "no thread could be started",
                )
                .because(cause)
            })?;
        Ok(session)
    }

    /// The producer of now. It is replaced when it breaks for good; sending to the broken one is
    /// refused.
    pub(super) fn producer(&self) -> Arc<BaseProducer<Deliveries>> {
        Arc::clone(&self.producer.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn serve(&self) {
        let mut served = Served::new(self.producer());
        while !self.stopped.load(Ordering::Acquire) {
            served.take_all();
            if served.producer().client().fatal_error().is_some() && self.rebuild() {
                served = Served::new(self.producer());
            }
            if self.ending.load(Ordering::Acquire) && self.context.ledger.is_empty() {
                return;
            }
            served.wait(LOOK);
        }
    }

    /// Replaces a producer that met a fatal error, if another can be made. What it held is
    /// reported by dropping it: in its queue as rejected, on its way as unknown.
    fn rebuild(&self) -> bool {
        let Ok(fresh) = create(&self.config, &self.context) else {
            return false;
        };
        tracing::warn!(target: "interline::kafka", "the producer met a fatal error and is made anew");
        let mut producer = self
            .producer
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let broken = std::mem::replace(&mut *producer, Arc::new(fresh));
        drop(producer);
        broken.purge(PurgeConfig::default().queue().inflight());
        broken.poll(Duration::ZERO);
        true
    }

    /// Ends the thread once everything on its way has an outcome.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    pub(super) fn is_running(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    /// Ends the thread now.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Gives up what has no outcome yet; the outcomes come at once.
    pub(super) fn purge(&self) {
        self.producer()
            .purge(PurgeConfig::default().queue().inflight());
    }

    /// Hands an event to librdkafka, which copies it. `producer` comes from
    /// [`producer`](Self::producer), once for a whole batch.
    pub(super) fn send(
        &self,
        producer: &BaseProducer<Deliveries>,
        name: &str,
        envelope: &Envelope,
        tag: usize,
    ) {
        // Adding a header takes the list and gives it back; never without one in between.
        let mut headers = Some(OwnedHeaders::new_with_capacity(HEADERS));
        for_each_header(envelope, Style::Underscore, |key, value| {
            let value = Some(value);
            headers = headers
                .take()
                .map(|headers| headers.insert(Header { key, value }));
        });
        let mut record = BaseRecord::with_opaque_to(name, tag);
        record.headers = headers;
        if let Some(key) = envelope.key() {
            record = record.key(&**key);
        }
        if let Some(payload) = envelope.payload() {
            record = record.payload(&**payload);
        }
        let Err((error, _)) = producer.send(record) else {
            if planted::is("receipt-before-report") {
                let (partition, position) = (0, Position::default());
                let durability = self.context.durability(name);
                self.context.ledger.settle(
                    tag,
                    Outcome::Stored {
                        partition,
                        position,
                        durability,
                    },
                );
            }
            return;
        };
        let refusal = kafka("publish", &error);
        self.context.ledger.settle(tag, Outcome::Rejected(refusal));
    }
}

fn create(config: &ClientConfig, context: &Deliveries) -> Result<BaseProducer<Deliveries>> {
    config
        .create_with_context(context.clone())
        .map_err(|error| kafka("publish", &error))
}
