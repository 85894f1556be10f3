//! NATS JetStream: async-nats as somebody who knows it well writes it. 1,024 acknowledgements are
//! outstanding on one inbox, or one batch that is stored as a whole; a pull consumer without
//! acknowledgements reads, and checkpoints go over a connection of their own.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use async_nats::header::{HeaderName, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID};
use async_nats::{Client, ConnectOptions, HeaderMap, HeaderValue, Message, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use futures_util::stream::ReadyChunks;
use interline_core::{Group, Topic};
use interline_transport::partition::for_key;
use interline_transport::wire::Style;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::Result;
use crate::broker::{Broker, Events, Goals, Job, Whole};
use crate::measure::{Round, Watch};
use crate::sample::{Sample, new_id, touch};
use crate::site::fresh;

/// Acknowledgements outstanding: more gain little, and without a bound the server drops events.
const WINDOW: usize = 1_024;

/// Events of a batch that is stored as a whole: the most that a server takes.
const WHOLE: usize = 1_000;

/// Answers or records that are taken at a time.
const CHUNK: usize = 1_024;

/// What one request asks for, and how many are out at a time.
const BATCH: usize = 2_500;
const BYTES: usize = 1 << 20;
const PULLS: usize = 2;

/// How often checkpoints are stored.
const EVERY: Duration = Duration::from_millis(100);

pub(crate) struct Nats;

impl Broker for Nats {
    const NAME: &'static str = interline_nats::SCHEME;
    const STYLE: Style = Style::Dash;
    const PARTITIONS: u32 = 12;
    const GOALS: Goals = Goals {
        publish_us: 0.4,
        consume_us: 0.4,
    };
    const EVENTS: Events = Events {
        published: [120_000, 100_000],
        consumed: [200_000, 120_000],
        awaited: 5_000,
    };
    const WHOLE: Option<Whole> = Some(Whole {
        settings: "sync_always=on",
        events: [60_000, 60_000],
    });

    async fn publish(job: Job<'_>, is_bare: bool) -> Result<Round> {
        let mut line = Line::open(connect(job.url).await?, job).await?;
        line.send(0, is_bare).await?;
        line.landed().await?;
        let watch = Watch::on(job.machine);
        for number in 0..job.events {
            line.send(number, is_bare).await?;
            while line.open >= WINDOW {
                line.landed().await?;
            }
        }
        while line.open > 0 {
            line.landed().await?;
        }
        Ok(watch.stop(job.events))
    }

    /// One batch at a time: only so do the events of one that is refused come before later ones.
    async fn publish_whole(job: Job<'_>) -> Result<Round> {
        let mut line = Line::open(connect(job.url).await?, job).await?;
        line.send(0, false).await?;
        line.landed().await?;
        let watch = Watch::on(job.machine);
        for first in (0..job.events).step_by(WHOLE) {
            line.send_whole(first..job.events.min(first + WHOLE))
                .await?;
            line.landed().await?;
        }
        Ok(watch.stop(job.events))
    }

    async fn awaited(job: Job<'_>) -> Result<Round> {
        let mut line = Line::open(connect(job.url).await?, job).await?;
        let mut numbers = 0..;
        let send = async |_: &Sample| {
            line.send(numbers.next().unwrap_or_default(), false).await?;
            line.landed().await
        };
        job.one_by_one(send).await
    }

    async fn consume(job: Job<'_>, group: &Group) -> Result<Round> {
        let mut checkpoints = Checkpoints::open(connect(job.url).await?, group).await?;
        let mut reading = Reading::open(connect(job.url).await?, job.topic).await?;
        let mut count = job.count();
        while !count.is_over() {
            for message in reading.next().await? {
                look_at(&message);
                count.one();
            }
            checkpoints.store(&reading.last).await?;
        }
        checkpoints.end(&reading.last).await?;
        count.round()
    }
}

async fn connect(url: &str) -> Result<Client> {
    let options = ConnectOptions::new()
        .client_capacity(16 << 10)
        .subscription_capacity(1 << 20);
    Ok(options.connect(url).await?)
}

/// Asks JetStream for something; what it refuses is an error. Some requests have to be empty.
async fn ask(client: &Client, what: &str, body: Option<&Value>) -> Result<Value> {
    let body = body.map_or(Ok(Vec::new()), serde_json::to_vec)?;
    let answer = client
        .request(format!("$JS.API.{what}"), body.into())
        .await?;
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    match answer.get("error") {
        Some(refused) => Err(format!("{what}: {refused}").into()),
        None => Ok(answer),
    }
}

fn subject(topic: &Topic, partition: u32) -> String {
    format!("{topic}.{partition}")
}

/// What a stream answers to an event.
#[derive(Deserialize)]
struct Ack {
    error: Option<Value>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
}

impl Ack {
    fn check(message: &Message) -> Result<u64> {
        match serde_json::from_slice(&message.payload)? {
            Self {
                error: None,
                seq,
                duplicate: false,
            } => Ok(seq),
            Self { error, .. } => Err(format!("not stored: {error:?}").into()),
        }
    }
}

/// A connection that publishes, with the inbox for its answers.
struct Line {
    client: Client,
    inbox: String,
    answers: ReadyChunks<Subscriber>,
    subjects: Vec<Subject>,
    events: Vec<Event>,
    number: u64,
    open: usize,
}

/// One event, ready but for its id.
struct Event {
    partition: usize,
    headers: Vec<(HeaderName, HeaderValue)>,
    payload: Bytes,
}

impl Event {
    fn of(sample: &Sample) -> Result<Self> {
        let pairs = sample.headers.iter();
        let parsed = pairs.map(|(name, value)| -> Result<_> {
            Ok((known(name)?, std::str::from_utf8(value)?.parse()?))
        });
        Ok(Self {
            partition: for_key(&sample.key, Nats::PARTITIONS) as usize,
            headers: parsed.collect::<Result<_>>()?,
            payload: sample.payload.clone(),
        })
    }

    /// With a new id.
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let id = new_id();
        headers.insert(NATS_MESSAGE_ID, format!("evt:{}", id.simple()));
        for (name, value) in &self.headers {
            let name: HeaderName = name.clone();
            if AsRef::<str>::as_ref(&name) == ID {
                headers.insert(name, id.hyphenated().to_string());
            } else {
                headers.insert(name, value.clone());
            }
        }
        headers
    }
}

/// Names that are known when the program is built cost nothing to copy.
fn known(name: &str) -> Result<HeaderName> {
    const NAMES: [&str; 7] = [
        ID,
        "ce-specversion",
        "ce-source",
        "ce-type",
        "ce-datacontenttype",
        "ce-time",
        "ce-partitionkey",
    ];
    let known = NAMES.into_iter().find(|known| *known == name);
    Ok(match known {
        Some(known) => HeaderName::from_static(known),
        None => name.parse()?,
    })
}

const ID: &str = "ce-id";

const BATCH_ID: HeaderName = HeaderName::from_static("Nats-Batch-Id");
const BATCH_SEQUENCE: HeaderName = HeaderName::from_static("Nats-Batch-Sequence");
const BATCH_COMMIT: HeaderName = HeaderName::from_static("Nats-Batch-Commit");

impl Line {
    async fn open(client: Client, job: Job<'_>) -> Result<Self> {
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.*")).await?;
        let subjects = (0..Nats::PARTITIONS).map(|partition| subject(job.topic, partition).into());
        Ok(Self {
            answers: answers.ready_chunks(CHUNK),
            client,
            inbox,
            subjects: subjects.collect(),
            events: job.samples.iter().map(Event::of).collect::<Result<_>>()?,
            number: 0,
            open: 0,
        })
    }

    async fn send(&mut self, number: usize, is_bare: bool) -> Result<()> {
        let event = &self.events[number % self.events.len()];
        let subject = self.subjects[event.partition].clone();
        self.number += 1;
        let reply = format!("{}.{}", self.inbox, self.number);
        let payload = event.payload.clone();
        self.open += 1;
        if is_bare {
            let sent = self.client.publish_with_reply(subject, reply, payload);
            return Ok(sent.await?);
        }
        let headers = event.headers();
        let sent = self
            .client
            .publish_with_reply_and_headers(subject, reply, headers, payload);
        Ok(sent.await?)
    }

    /// Sends events as one batch, which gets one answer.
    async fn send_whole(&mut self, numbers: Range<usize>) -> Result<()> {
        let batch: HeaderValue = new_id().simple().to_string().parse()?;
        let mut sequence = 0;
        for number in numbers.clone() {
            let event = &self.events[number % self.events.len()];
            let subject = self.subjects[event.partition].clone();
            let (mut headers, payload) = (event.headers(), event.payload.clone());
            sequence += 1;
            headers.insert(BATCH_ID, batch.clone());
            headers.insert(BATCH_SEQUENCE, sequence.to_string());
            if number + 1 < numbers.end {
                let sent = self.client.publish_with_headers(subject, headers, payload);
                sent.await?;
                continue;
            }
            headers.insert(BATCH_COMMIT, "1");
            self.number += 1;
            self.open += 1;
            let reply = format!("{}.{}", self.inbox, self.number);
            let sent = self
                .client
                .publish_with_reply_and_headers(subject, reply, headers, payload);
            sent.await?;
        }
        Ok(())
    }

    /// Takes the answers that have come, at least one.
    async fn landed(&mut self) -> Result<()> {
        let answers = self.answers.next().await.ok_or("the connection is gone")?;
        for answer in &answers {
            std::hint::black_box(Ack::check(answer)?);
        }
        self.open -= answers.len();
        Ok(())
    }
}

/// A consumer of all partitions.
struct Reading {
    client: Client,
    inbox: String,
    asks: Subject,
    messages: ReadyChunks<Subscriber>,
    /// What the requests that are out have still to bring.
    pulls: VecDeque<usize>,
    /// The last sequence of each partition.
    last: Vec<u64>,
    subjects: Vec<Subject>,
}

impl Reading {
    async fn open(client: Client, topic: &Topic) -> Result<Self> {
        let inbox = client.new_inbox();
        let messages = client.subscribe(inbox.clone()).await?.ready_chunks(CHUNK);
        let name = fresh("raw");
        let subjects = (0..Nats::PARTITIONS).map(|partition| subject(topic, partition).into());
        let subjects: Vec<Subject> = subjects.collect();
        let filters: Vec<&str> = subjects.iter().map(|subject| &**subject).collect();
        let config = json!({
            "name": name,
            "ack_policy": "none",
            "deliver_policy": "all",
            "replay_policy": "instant",
            "inactive_threshold": 30_000_000_000_u64,
            "num_replicas": 1,
            "mem_storage": true,
            "filter_subjects": filters,
        });
        let body = json!({ "stream_name": topic.as_str(), "config": config, "action": "create" });
        ask(
            &client,
            &format!("CONSUMER.CREATE.{topic}.{name}"),
            Some(&body),
        )
        .await?;
        Ok(Self {
            client,
            inbox,
            asks: format!("$JS.API.CONSUMER.MSG.NEXT.{topic}.{name}").into(),
            messages,
            pulls: VecDeque::new(),
            last: vec![0; subjects.len()],
            subjects,
        })
    }

    async fn next(&mut self) -> Result<Vec<Message>> {
        while self.pulls.len() < PULLS {
            let body = format!(r#"{{"batch":{BATCH},"max_bytes":{BYTES},"expires":30000000000}}"#);
            let (asks, inbox) = (self.asks.clone(), self.inbox.clone());
            self.client
                .publish_with_reply(asks, inbox, body.into())
                .await?;
            self.pulls.push_back(BATCH);
        }
        let mut messages = self.messages.next().await.ok_or("the connection is gone")?;
        for message in &messages {
            let Some(left) = self.pulls.front_mut() else {
                continue;
            };
            *left -= 1;
            // The server says when a request ends before it has brought everything.
            if *left == 0 || message.status.is_some() {
                self.pulls.pop_front();
            }
        }
        messages.retain(|message| message.status.is_none());
        for message in &messages {
            let partition = self.subjects.iter().position(|s| *s == message.subject);
            self.last[partition.ok_or("another subject")?] = sequence(message).ok_or("no place")?;
        }
        Ok(messages)
    }
}

/// `$JS.ACK.<stream>.<consumer>.<times>.<sequence>...`
fn sequence(message: &Message) -> Option<u64> {
    message.reply.as_ref()?.split('.').nth(5)?.parse().ok()
}

/// Looks at everything that a user would look at.
fn look_at(message: &Message) {
    touch(&message.payload);
    let headers = message.headers.iter().flat_map(HeaderMap::iter);
    for (name, values) in headers {
        touch(name.as_ref());
        values.iter().for_each(|value| touch(value.as_ref()));
    }
}

/// Checkpoints in a bucket: each is fenced by its revision, and stored by time.
struct Checkpoints {
    client: Client,
    bucket: String,
    revisions: Vec<u64>,
    due: Instant,
    on_the_way: Option<JoinHandle<Result<Vec<u64>>>>,
}

impl Checkpoints {
    async fn open(client: Client, group: &Group) -> Result<Self> {
        let bucket = format!("KV_{group}");
        let config = json!({
            "name": bucket,
            "subjects": [format!("$KV.{bucket}.>")],
            "max_msgs_per_subject": 1,
            "storage": "file",
            "discard": "new",
            "num_replicas": 1,
        });
        ask(&client, &format!("STREAM.CREATE.{bucket}"), Some(&config)).await?;
        Ok(Self {
            client,
            bucket,
            revisions: vec![0; Nats::PARTITIONS as usize],
            due: Instant::now() + EVERY,
            on_the_way: None,
        })
    }

    /// Stores them if it is time to, without waiting.
    async fn store(&mut self, last: &[u64]) -> Result<()> {
        if self.due > Instant::now() {
            return Ok(());
        }
        self.landed().await?;
        let rows = self.revisions.iter().zip(last).enumerate();
        let rows = rows.map(|(partition, (revision, last))| {
            let client = self.client.clone();
            let subject = format!("$KV.{}.{partition}", self.bucket);
            let mut headers = HeaderMap::new();
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string());
            let row = format!(r#"{{"owner":"raw","progress":"{last}"}}"#);
            async move {
                let answer = client.request_with_headers(subject, headers, row.into());
                Ack::check(&answer.await?)
            }
        });
        self.on_the_way = Some(tokio::spawn(try_join_all(rows.collect::<Vec<_>>())));
        self.due = Instant::now() + EVERY;
        Ok(())
    }

    async fn landed(&mut self) -> Result<()> {
        if let Some(last) = self.on_the_way.take() {
            self.revisions = last.await??;
        }
        Ok(())
    }

    async fn end(mut self, last: &[u64]) -> Result<()> {
        self.due = Instant::now();
        self.store(last).await?;
        self.landed().await?;
        ask(
            &self.client,
            &format!("STREAM.DELETE.{}", self.bucket),
            None,
        )
        .await?;
        Ok(())
    }
}
