//! Redis: fred as somebody who knows it well writes it. One script stores a batch, the next read
//! is on its way while the last one is handled, checkpoints go over a connection of their own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::Config;
use fred::types::{ClusterHash, CustomCommand, Resp3Frame, Value};
use interline_core::{Group, Topic};
use interline_transport::partition::for_key;
use interline_transport::wire::Style;
use tokio::task::JoinHandle;

use crate::Result;
use crate::broker::{Broker, Events, Goals, Job};
use crate::measure::{Round, Watch};
use crate::sample::{Sample, new_id, touch};
use crate::site::fresh;

/// Events of one call, and calls on their way: as ours.
const BATCH: usize = 512;
const OVERLAP: usize = 2;

/// Events of one partition that one read asks for: a thousand in all.
const COUNT: i64 = 83;

/// How often checkpoints are stored.
const EVERY: Duration = Duration::from_millis(100);

pub(crate) struct Redis;

impl Broker for Redis {
    const NAME: &'static str = interline_redis::SCHEME;
    const STYLE: Style = Style::Underscore;
    const PARTITIONS: u32 = 12;
    const GOALS: Goals = Goals {
        publish_us: 0.5,
        consume_us: 0.4,
    };
    const EVENTS: Events = Events {
        published: [250_000, 150_000],
        consumed: [250_000, 150_000],
        awaited: 5_000,
    };

    async fn publish(job: Job<'_>, is_bare: bool) -> Result<Round> {
        let script = if is_bare {
            include_str!("bare.lua")
        } else {
            include_str!("publish.lua")
        };
        let mut line = Line::open(&connect(job.url).await?, script).await?;
        line.send(job.samples.iter().take(1), is_bare);
        line.landed(0).await?;
        let watch = Watch::on(job.machine);
        let mut source = job.source().peekable();
        while source.peek().is_some() {
            line.send(source.by_ref().take(BATCH), is_bare);
            line.landed(OVERLAP - 1).await?;
        }
        line.landed(0).await?;
        let round = watch.stop(job.events);
        line.delete().await?;
        Ok(round)
    }

    async fn awaited(job: Job<'_>) -> Result<Round> {
        let mut line = Line::open(&connect(job.url).await?, include_str!("publish.lua")).await?;
        let send = async |sample: &Sample| {
            let args = line.args(std::iter::once(sample), false);
            good(call(&line.client, "EVALSHA", args).await?).map(drop)
        };
        let round = job.one_by_one(send).await?;
        line.delete().await?;
        Ok(round)
    }

    async fn consume(job: Job<'_>, group: &Group) -> Result<Round> {
        let client = connect(job.url).await?;
        let mut checkpoints = Checkpoints::open(connect(job.url).await?, group).await?;
        let mut reading = Reading::of(job.topic);
        let mut count = job.count();
        let mut next = reading.ask(&client);
        while !count.is_over() {
            let answer = next.await??;
            let streams = reading.take(answer)?;
            // The next answer comes while this one is handled.
            next = reading.ask(&client);
            for entry in streams.into_iter().flat_map(|(_, entries)| entries) {
                look_at(entry)?;
                count.one();
            }
            checkpoints.store(&reading.last).await?;
        }
        checkpoints.end(&reading.last).await?;
        let round = count.round()?;
        next.abort();
        Ok(round)
    }
}

async fn connect(url: &str) -> Result<Client> {
    let client = Client::new(Config::from_url(url)?, None, None, None);
    client.init().await?;
    Ok(client)
}

type Asked = JoinHandle<Result<Resp3Frame, fred::error::Error>>;

/// Asks at once, also if nobody waits for the answer yet.
fn ask(client: &Client, command: &'static str, args: Vec<Value>) -> Asked {
    let client = client.clone();
    tokio::spawn(async move { call(&client, command, args).await })
}

async fn call(
    client: &Client,
    command: &'static str,
    args: Vec<Value>,
) -> Result<Resp3Frame, fred::error::Error> {
    let blocks = command == "XREAD";
    let command = CustomCommand::new_static(command, ClusterHash::FirstKey, blocks);
    client.custom_raw(command, args).await
}

fn text(value: String) -> Value {
    Value::Bytes(value.into())
}

/// The answer, unless the server refuses.
fn good(answer: Resp3Frame) -> Result<Resp3Frame> {
    match answer {
        Resp3Frame::SimpleError { data, .. } => Err(data.to_string().into()),
        Resp3Frame::BlobError { data, .. } => Err(String::from_utf8_lossy(&data).into()),
        answer => Ok(answer),
    }
}

fn list(frame: Resp3Frame) -> Result<Vec<Resp3Frame>> {
    match good(frame)? {
        Resp3Frame::Array { data, .. } => Ok(data),
        Resp3Frame::Null => Ok(Vec::new()),
        other => Err(format!("no list but {other:?}").into()),
    }
}

fn bytes(frame: Resp3Frame) -> Result<Bytes> {
    match good(frame)? {
        Resp3Frame::BlobString { data, .. } | Resp3Frame::SimpleString { data, .. } => Ok(data),
        other => Err(format!("no string but {other:?}").into()),
    }
}

async fn load(client: &Client, script: &'static str) -> Result<Bytes> {
    let args = vec!["LOAD".into(), script.into()];
    bytes(call(client, "SCRIPT", args).await?)
}

/// A session that stores batches in streams of its own.
struct Line {
    client: Client,
    script: Bytes,
    keys: Vec<Bytes>,
    number: i64,
    on_the_way: VecDeque<Asked>,
}

impl Line {
    async fn open(client: &Client, script: &'static str) -> Result<Self> {
        let name = fresh("raw");
        let key = |what: String| Bytes::from(format!("{{{name}}}:{what}"));
        let mut keys = vec![key("heads".to_owned()), key("session".to_owned())];
        keys.extend((0..Redis::PARTITIONS).map(|partition| key(partition.to_string())));
        Ok(Self {
            script: load(client, script).await?,
            client: client.clone(),
            keys,
            number: 0,
            on_the_way: VecDeque::new(),
        })
    }

    fn args<'s>(&mut self, batch: impl Iterator<Item = &'s Sample>, is_bare: bool) -> Vec<Value> {
        self.number += 1;
        let mut args = Vec::with_capacity(3 * BATCH + self.keys.len() + 3);
        args.push(Value::Bytes(self.script.clone()));
        args.push(Value::Integer(i64::try_from(self.keys.len()).unwrap_or(0)));
        args.extend(self.keys.iter().cloned().map(Value::Bytes));
        args.push(Value::Integer(self.number));
        let mut text = BytesMut::new();
        for sample in batch {
            let partition = for_key(&sample.key, Redis::PARTITIONS);
            if !is_bare {
                pack(sample, &mut text);
            }
            args.push(Value::Integer(i64::from(partition) + 1));
            args.push(Value::Bytes(text.split().freeze()));
            args.push(Value::Bytes(sample.payload.clone()));
        }
        args
    }

    fn send<'s>(&mut self, batch: impl Iterator<Item = &'s Sample>, is_bare: bool) {
        let args = self.args(batch, is_bare);
        self.on_the_way
            .push_back(ask(&self.client, "EVALSHA", args));
    }

    /// Waits until no more than `left` are on their way.
    async fn landed(&mut self, left: usize) -> Result<()> {
        while self.on_the_way.len() > left {
            if let Some(oldest) = self.on_the_way.pop_front() {
                good(oldest.await??)?;
            }
        }
        Ok(())
    }

    async fn delete(self) -> Result<()> {
        let keys = self.keys.into_iter().map(Value::Bytes).collect();
        good(call(&self.client, "UNLINK", keys).await?)?;
        Ok(())
    }
}

/// The attributes as our transport writes them; nothing here needs an escape.
fn pack(sample: &Sample, text: &mut BytesMut) {
    let mut id = [0; 36];
    let id = new_id().hyphenated().encode_lower(&mut id);
    for (at, (name, value)) in sample.headers_with(id).enumerate() {
        if at > 0 {
            text.extend_from_slice(b"&");
        }
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(b"=");
        text.extend_from_slice(value);
    }
}

/// A reading of all partitions of a topic that our side has filled.
struct Reading {
    streams: Vec<Bytes>,
    last: Vec<Bytes>,
}

impl Reading {
    fn of(topic: &Topic) -> Self {
        let streams = 0..Redis::PARTITIONS;
        let streams = streams.map(|partition| format!("interline:{{{topic}}}:{partition}").into());
        Self {
            streams: streams.collect(),
            last: vec![Bytes::from_static(b"0-0"); Redis::PARTITIONS as usize],
        }
    }

    fn ask(&self, client: &Client) -> Asked {
        let mut args = Vec::with_capacity(2 * self.streams.len() + 5);
        args.extend(["COUNT".into(), COUNT.into(), "BLOCK".into()]);
        args.extend([1_000.into(), "STREAMS".into()]);
        args.extend(self.streams.iter().cloned().map(Value::Bytes));
        args.extend(self.last.iter().cloned().map(Value::Bytes));
        ask(client, "XREAD", args)
    }

    /// The entries of each partition; from now on it goes on behind them.
    fn take(&mut self, answer: Resp3Frame) -> Result<Vec<(usize, Vec<Resp3Frame>)>> {
        let mut all = Vec::with_capacity(self.streams.len());
        for stream in list(answer)? {
            let mut halves = list(stream)?.into_iter();
            let key = bytes(halves.next().ok_or("no key")?)?;
            let entries = list(halves.next().ok_or("no entries")?)?;
            let partition = self.streams.iter().position(|stream| *stream == key);
            let partition = partition.ok_or("another stream")?;
            if let Some(Resp3Frame::Array { data, .. }) = entries.last() {
                self.last[partition] = bytes(data.first().cloned().ok_or("no id")?)?;
            }
            all.push((partition, entries));
        }
        Ok(all)
    }
}

/// Looks at everything that a user would look at.
fn look_at(entry: Resp3Frame) -> Result<()> {
    let mut halves = list(entry)?.into_iter();
    let id = bytes(halves.next().ok_or("no id")?)?;
    std::hint::black_box(id);
    let mut fields = list(halves.next().ok_or("no fields")?)?.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let (name, value) = (bytes(name)?, bytes(value)?);
        if name != "ce" {
            touch(&value);
            continue;
        }
        for pair in value.split(|byte| *byte == b'&') {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            touch(halves.next().unwrap_or_default());
            touch(halves.next().unwrap_or_default());
        }
    }
    Ok(())
}

/// Checkpoints under a fence, stored by time.
struct Checkpoints {
    client: Client,
    script: Bytes,
    keys: [Bytes; 2],
    due: Instant,
    on_the_way: Option<Asked>,
}

const OWNER: &str = "raw";

impl Checkpoints {
    async fn open(client: Client, group: &Group) -> Result<Self> {
        let script = load(&client, include_str!("commit.lua")).await?;
        let keys = ["leases", "checkpoints"].map(|what| format!("{{{group}}}:{what}").into());
        let mut leases = vec![Value::Bytes(Bytes::clone(&keys[0]))];
        for partition in 0..Redis::PARTITIONS {
            leases.extend([Value::Integer(partition.into()), text(format!("1 {OWNER}"))]);
        }
        good(call(&client, "HSET", leases).await?)?;
        Ok(Self {
            client,
            script,
            keys,
            due: Instant::now() + EVERY,
            on_the_way: None,
        })
    }

    /// Stores them if it is time to, without waiting.
    async fn store(&mut self, last: &[Bytes]) -> Result<()> {
        if self.due > Instant::now() {
            return Ok(());
        }
        self.landed().await?;
        let mut args = vec![Value::Bytes(self.script.clone()), 2.into()];
        args.extend(self.keys.iter().cloned().map(Value::Bytes));
        args.push(OWNER.into());
        for (partition, last) in (0..).zip(last) {
            args.extend([Value::Integer(partition), 1.into()]);
            args.push(Value::Bytes(last.clone()));
        }
        self.on_the_way = Some(ask(&self.client, "EVALSHA", args));
        self.due = Instant::now() + EVERY;
        Ok(())
    }

    async fn landed(&mut self) -> Result<()> {
        if let Some(last) = self.on_the_way.take() {
            good(last.await??)?;
        }
        Ok(())
    }

    async fn end(mut self, last: &[Bytes]) -> Result<()> {
        self.due = Instant::now();
        self.store(last).await?;
        self.landed().await?;
        let keys = self.keys.map(Value::Bytes).to_vec();
        good(call(&self.client, "UNLINK", keys).await?)?;
        Ok(())
    }
}
