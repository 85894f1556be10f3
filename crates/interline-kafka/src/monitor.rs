//! What the clients of one connection say about its health.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use interline_core::State;
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};

use crate::token::Tokens;

/// How many log lines are kept for telling why a connection failed.
const LINES: usize = 16;

/// The state of a connection, told by every client that belongs to it.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    trouble: Option<(SystemTime, String)>,
    lines: VecDeque<String>,
}

impl Monitor {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> State {
        match &self.lock().trouble {
            None => State::Connected,
            Some((since, cause)) => State::Reconnecting {
                since: *since,
                cause: cause.clone(),
            },
        }
    }

    pub(crate) fn is_troubled(&self) -> bool {
        self.lock().trouble.is_some()
    }

    /// The server answered.
    pub(crate) fn healthy(&self) {
        self.lock().trouble = None;
    }

    fn trouble(&self, cause: &str) {
        let mut inner = self.lock();
        match &mut inner.trouble {
            Some((_, known)) => cause.clone_into(known),
            None => inner.trouble = Some((SystemTime::now(), cause.to_owned())),
        }
    }

    /// No broker answers; what was said last tells why.
    fn all_down(&self) {
        let said = self.lock().lines.back().cloned();
        self.trouble(said.as_deref().unwrap_or("no broker answers"));
    }

    fn line(&self, line: String) {
        let mut inner = self.lock();
        if inner.lines.contains(&line) {
            return;
        }
        if inner.lines.len() == LINES {
            inner.lines.pop_front();
        }
        inner.lines.push_back(line);
    }

    /// What librdkafka said lately, oldest first.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }
}

/// The context of every client: log lines and errors go to `tracing` and to the monitor.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) tokens: Option<Arc<Tokens>>,
}

impl ClientContext for Watch {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        if facility == "FAIL" {
            // Why a connection was closed is told here alone.
            let said = line.split_once("]: ").map_or(line, |(_, said)| said);
            self.monitor.line(said.to_owned());
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::warn!(target: "interline::kafka", facility, "{line}");
            }
            _ => tracing::debug!(target: "interline::kafka", facility, "{line}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            // One broker of several may be away without anybody noticing.
            Some(RDKafkaErrorCode::AllBrokersDown) => self.monitor.all_down(),
            Some(
                RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::SSL,
            ) => {
                self.monitor.line(reason.to_owned());
                self.monitor.trouble(reason);
            }
            _ => self.monitor.line(reason.to_owned()),
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn StdError>> {
        match &self.tokens {
            Some(tokens) => Ok(tokens.current()?),
            None => Err("no token provider is configured".into()),
        }
    }
}

impl ProducerContext for Watch {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

impl ConsumerContext for Watch {}
