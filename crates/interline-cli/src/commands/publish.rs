//! `interline publish`.

use clap::Args;
use interline::core::{Outgoing, limits};
use interline::json::cloudevents;
use interline::{
    Admin as _, Bus, ByteString, Bytes, Capabilities, Envelope, Kind, Outcome, Pattern, Timestamp,
    Topic, TopicSpec,
};
use serde_json::Value;

use crate::args::{Connection, require_topic};
use crate::interrupt::Interrupt;
use crate::lines::{Line, Lines};
use crate::stop::{Exit, Stop};
use crate::{output, progress};

/// Publish events from stdin, one a line
///
/// Each line is a CloudEvent in JSON, as `interline consume` writes it; with --type each line is
/// the data of an event. A line is published when every line before it is stored. At the first
/// line that is no event it stops: the lines before are published, the line and those behind it
/// are not.
#[derive(Args, Debug)]
pub(crate) struct Publish {
    #[command(flatten)]
    connection: Connection,
    /// The topic
    #[arg(long)]
    topic: Topic,
    /// Create the topic if it is missing
    #[arg(long)]
    create: bool,
    /// Each line is the data of an event of this type
    #[arg(long = "type", value_name = "TYPE")]
    ty: Option<ByteString>,
    /// The source of these events
    #[arg(long, requires = "ty", default_value = "/interline/cli")]
    source: ByteString,
    /// The media type of their data
    #[arg(long, requires = "ty", default_value = "application/json")]
    content_type: ByteString,
    /// What they are about
    #[arg(long, requires = "ty")]
    subject: Option<String>,
    /// Their key
    #[arg(long, requires = "ty", conflicts_with = "key_from")]
    key: Option<String>,
    /// Where in their JSON the key stands: a field as `repository`, or a pointer as /user/id
    #[arg(long, requires = "ty", value_name = "POINTER")]
    key_from: Option<String>,
}

pub(crate) async fn run(args: Publish, json: bool, interrupt: &Interrupt) -> Result<Exit, Stop> {
    let reading = Reading::of(&args)?;
    let bus = args.connection.open().await?;
    if args.create {
        bus.admin()
            .ensure(vec![TopicSpec::new(args.topic.clone())])
            .await?;
    }
    require_topic(bus.transport(), &Pattern::exact(args.topic.as_str())).await?;
    let mut publishing = Publishing {
        capabilities: bus.capabilities(),
        bus,
        topic: args.topic,
        published: 0,
        duplicates: 0,
    };
    let ended = publishing.all(&reading, interrupt).await;
    let closed = publishing
        .bus
        .close(std::time::Duration::from_secs(30))
        .await;
    publishing.tell(json)?;
    match ended {
        Ok(exit) => closed.map(|()| exit).map_err(Stop::from),
        Err(stop) => Err(stop.and(format_args!("{} published before it", publishing.published))),
    }
}

struct Publishing {
    bus: Bus,
    capabilities: Capabilities,
    topic: Topic,
    published: u64,
    duplicates: u64,
}

impl Publishing {
    async fn all(&mut self, reading: &Reading, interrupt: &Interrupt) -> Result<Exit, Stop> {
        let mut lines = Lines::of_stdin();
        let bar = progress::bar("published", None);
        loop {
            let read = tokio::select! {
                read = lines.next() => read,
                () = interrupt.requested() => return Ok(Exit::Interrupted),
            };
            if read.is_empty() {
                bar.finish_and_clear();
                return Ok(Exit::Done);
            }
            let (batch, mistake) = self.prepare(reading, read);
            self.publish(batch).await?;
            bar.set_position(self.published);
            if let Some(mistake) = mistake {
                bar.finish_and_clear();
                return Err(mistake);
            }
        }
    }

    /// The events up to the first mistake.
    fn prepare(
        &self,
        reading: &Reading,
        lines: Vec<Result<Line, Stop>>,
    ) -> (Vec<(u64, Envelope)>, Option<Stop>) {
        let mut batch = Vec::with_capacity(lines.len());
        for line in lines {
            let read = line.and_then(|Line { number, text }| {
                let event = reading.event(text).and_then(|event| self.fits(event));
                event
                    .map(|event| (number, event))
                    .map_err(|stop| stop.at(format_args!("line {number}")))
            });
            match read {
                Ok(event) => batch.push(event),
                Err(stop) => return (batch, Some(stop)),
            }
        }
        (batch, None)
    }

    /// A line that is too large is a mistake of the input: it is found before anything is sent.
    fn fits(&self, event: Envelope) -> Result<Envelope, Stop> {
        let outgoing = Outgoing::new(self.topic.clone(), event);
        limits::check(&outgoing, &self.capabilities)?;
        Ok(outgoing.envelope)
    }

    /// Publishes a batch and waits for it, so that lines of one key are stored in their order.
    async fn publish(&mut self, batch: Vec<(u64, Envelope)>) -> Result<(), Stop> {
        if batch.is_empty() {
            return Ok(());
        }
        let (numbers, events): (Vec<u64>, Vec<Envelope>) = batch.into_iter().unzip();
        let events = events.into_iter().map(|event| (self.topic.clone(), event));
        let outcomes = self.bus.publish_raw(events.collect()).await?;
        let mut first = None;
        for (number, outcome) in numbers.into_iter().zip(outcomes) {
            match outcome.into_result() {
                Ok(outcome) => {
                    self.published += 1;
                    self.duplicates += u64::from(matches!(outcome, Outcome::Duplicate { .. }));
                }
                Err(error) => {
                    let stop = Stop::from(error).at(format_args!("line {number}"));
                    first.get_or_insert(stop);
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    fn tell(&self, json: bool) -> Result<(), Stop> {
        if json {
            output::print_json(&serde_json::json!({
                "published": self.published,
                "duplicates": self.duplicates,
            }))?;
        }
        Ok(())
    }
}

/// How a line becomes an event.
enum Reading {
    CloudEvents,
    Data {
        kind: std::sync::Arc<Kind>,
        subject: Option<String>,
        key: Key,
    },
}

enum Key {
    None,
    Fixed(String),
    /// A JSON pointer.
    From(String),
}

impl Reading {
    fn of(args: &Publish) -> Result<Self, Stop> {
        let Some(ty) = &args.ty else {
            return Ok(Self::CloudEvents);
        };
        let kind = Kind::new(args.source.clone(), ty.clone())?;
        let key = match (&args.key, &args.key_from) {
            (Some(key), _) => Key::Fixed(key.clone()),
            (None, Some(at)) if at.starts_with('/') => Key::From(at.clone()),
            (None, Some(field)) => {
                // A name is a pointer once its own signs are escaped.
                Key::From(format!("/{}", field.replace('~', "~0").replace('/', "~1")))
            }
            (None, None) => Key::None,
        };
        Ok(Self::Data {
            kind: kind.content_type(args.content_type.clone()).into(),
            subject: args.subject.clone(),
            key,
        })
    }

    fn event(&self, line: Vec<u8>) -> Result<Envelope, Stop> {
        let Self::Data { kind, subject, key } = self else {
            return Ok(cloudevents::from_line(line)?);
        };
        let data = Bytes::from(line);
        let mut event = Envelope::builder(std::sync::Arc::clone(kind))
            .time(Timestamp::now())
            .payload(data.clone());
        let is_json = kind
            .data_content_type()
            .is_some_and(|ty| ty.contains("json"));
        if is_json || matches!(key, Key::From(_)) {
            let value: Value = serde_json::from_slice(&data).map_err(|error| no_json(&error))?;
            if let Key::From(at) = key {
                event = event.key(key_at(&value, at)?);
            }
        }
        if let Key::Fixed(key) = key {
            event = event.key(key.clone());
        }
        if let Some(subject) = subject {
            event = event.subject(subject.as_str());
        }
        Ok(event.build()?)
    }
}

/// The parser's own text may quote what stands there.
fn no_json(error: &serde_json::Error) -> Stop {
    let column = error.column();
    let line = format!("no JSON at column {column}; correct it, or name another --content-type");
    Stop::new(Exit::Invalid, line)
}

fn key_at(value: &Value, pointer: &str) -> Result<String, Stop> {
    match value.pointer(pointer) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        _ => {
            let line = format!("no text or number stands at `{pointer}`, where the key should be");
            Err(Stop::new(Exit::Invalid, line))
        }
    }
}
