//! The webhooks that are published.

use std::collections::BTreeSet;
use std::path::Path;

use interline::core::stable_hash;
use interline::{Bytes, Envelope, EventId, Kind, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::stop::{Exit, Stop};

/// The extension attribute with an event's number; CloudEvents has it as text.
pub(super) const SEQUENCE: &str = "sequence";

const SOURCE: &str = "/interline/demo";

/// One webhook as it came in.
#[derive(Debug, Deserialize)]
struct Webhook {
    event: String,
    action: Option<String>,
    repository: Option<String>,
    sender: Option<String>,
    payload: Box<RawValue>,
}

/// Webhooks, each to be published `copies` times: the events are numbered through all copies.
#[derive(Debug)]
pub(super) struct Webhooks {
    hooks: Vec<Webhook>,
    copies: usize,
}

impl Webhooks {
    /// Reads the file, or takes the demo's own.
    pub(super) fn load(file: Option<&Path>, copies: u32) -> Result<Self, Stop> {
        let copies = copies as usize;
        let Some(file) = file else {
            let hooks = parse(include_bytes!("webhooks.ndjson"))?;
            return Ok(Self { hooks, copies });
        };
        let name = file.display().to_string();
        let bytes = std::fs::read(file).map_err(|error| {
            let exit = match error.kind() {
                std::io::ErrorKind::NotFound => Exit::NotFound,
                _ => Exit::Failed,
            };
            Stop::new(exit, format!("{name}: cannot be read: {error}"))
        })?;
        let hooks = parse(&bytes).map_err(|stop| stop.at(&name))?;
        if hooks.is_empty() {
            return Err(Stop::new(
                Exit::Invalid,
                format!("{name}: holds no webhook"),
            ));
        }
        Ok(Self { hooks, copies })
    }

    /// How many events there are.
    pub(super) fn len(&self) -> usize {
        self.hooks.len() * self.copies
    }

    /// How many types and repositories there are.
    pub(super) fn variety(&self) -> (usize, usize) {
        let types: BTreeSet<String> = self.hooks.iter().map(Webhook::ty).collect();
        let keys: BTreeSet<_> = self
            .hooks
            .iter()
            .filter_map(|hook| hook.repository.as_ref())
            .collect();
        (types.len(), keys.len())
    }

    /// The key of the event with this number.
    pub(super) fn key(&self, sequence: usize) -> Option<&str> {
        self.hooks[sequence % self.hooks.len()]
            .repository
            .as_deref()
    }

    /// The id of the event with this number: from the number and what it holds, so that another
    /// process with the same webhooks can name it.
    pub(super) fn id(&self, sequence: usize) -> Result<EventId, Stop> {
        let hook = &self.hooks[sequence % self.hooks.len()];
        let hash = stable_hash(&[hook.event.as_bytes(), hook.payload.get().as_bytes()]);
        Ok(EventId::parse(format!(
            "{sequence}-{:08x}",
            hash.as_fields().0
        ))?)
    }

    /// The event with this number.
    pub(super) fn envelope(&self, sequence: usize) -> Result<Envelope, Stop> {
        let hook = &self.hooks[sequence % self.hooks.len()];
        let kind = Kind::new(SOURCE, hook.ty())?.content_type("application/json");
        let payload = Bytes::copy_from_slice(hook.payload.get().as_bytes());
        let mut envelope = Envelope::builder(kind)
            .id(self.id(sequence)?)
            .time(Timestamp::now())
            .attribute(SEQUENCE, sequence.to_string())
            .payload(payload);
        if let Some(repository) = &hook.repository {
            envelope = envelope.key(repository.clone());
        }
        if let Some(sender) = &hook.sender {
            envelope = envelope.subject(sender.as_str());
        }
        Ok(envelope.build()?)
    }
}

impl Webhook {
    fn ty(&self) -> String {
        match &self.action {
            Some(action) => format!("github.{}.{action}", self.event),
            None => format!("github.{}", self.event),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<Webhook>, Stop> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    lines
        .filter(|(_, line)| !line.trim_ascii().is_empty())
        .map(|(at, line)| {
            serde_json::from_slice(line).map_err(|error| {
                // The parser's text may quote what stands there.
                let column = error.column();
                let line = format!(
                    "line {}: no webhook (at column {column}); write a JSON object with event, \
                     action, repository, sender and payload",
                    at + 1
                );
                Stop::new(Exit::Invalid, line)
            })
        })
        .collect()
}

/// The number of an event, if it is one of the demo's.
pub(super) fn sequence(envelope: &Envelope) -> Option<usize> {
    envelope.attribute(SEQUENCE)?.to_text().parse().ok()
}
