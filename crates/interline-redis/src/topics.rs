//! Topics as the server knows them.

use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;
use interline_core::{Cleanup, Ensured, ErrorKind, Partition, Result, Topic, TopicSpec};
use uuid::Uuid;

use crate::error::error;
use crate::reply::{self, list, odd, text, texts};
use crate::scripts::{CREATE, DELETE, TRIM};
use crate::server::Server;

/// A topic as it was when it was asked for. Nothing of it changes while it exists; a topic of the
/// same name that was made anew has another incarnation.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) topic: Topic,
    /// The hash with what follows.
    pub(crate) key: Bytes,
    pub(crate) incarnation: Bytes,
    /// The mark of the data that it is part of.
    pub(crate) store: String,
    /// A stream per partition.
    pub(crate) streams: Vec<Bytes>,
    pub(crate) retention: Duration,
    /// Its ids count its events. They do not in a stream that belongs to somebody else.
    pub(crate) is_dense: bool,
}

impl Facts {
    pub(crate) fn partitions(&self) -> u32 {
        u32::try_from(self.streams.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn partition(&self, index: u32) -> Partition {
        Partition::new(self.topic.clone(), index)
    }

    fn new(
        server: &Server,
        topic: &Topic,
        store: String,
        fields: [Option<String>; 4],
    ) -> Option<Self> {
        let keys = &server.resolved.keys;
        let [incarnation, partitions, retention, foreign] = fields;
        let partitions: u32 = partitions?.parse().ok()?;
        let is_dense = foreign.is_none();
        let streams = match foreign {
            Some(stream) => vec![stream.into()],
            None => (0..partitions)
                .map(|index| keys.partition(topic, index))
                .collect(),
        };
        Some(Self {
            topic: topic.clone(),
            key: keys.topic(topic),
            incarnation: incarnation?.into(),
            store,
            streams,
            retention: Duration::from_millis(retention?.parse().ok()?),
            is_dense,
        })
    }
}

const FIELDS: [&str; 4] = ["incarnation", "partitions", "retention", "stream"];

fn four(fields: Vec<Option<String>>) -> [Option<String>; 4] {
    let mut fields = fields.into_iter();
    std::array::from_fn(|_| fields.next().flatten())
}

/// The topic, if it is there.
pub(crate) async fn ask(
    server: &Server,
    operation: &'static str,
    topic: &Topic,
) -> Result<Option<Facts>> {
    let keys = &server.resolved.keys;
    let mut args = vec![Value::Bytes(keys.topic(topic))];
    args.extend(FIELDS.map(Value::from_static_str));
    let store = vec![Value::Bytes(keys.store())];
    let (store, fields) = futures_util::try_join!(
        server.link.call(operation, "GET", store),
        server.link.call(operation, "HMGET", args),
    )?;
    let fields = four(texts(fields));
    if fields[0].is_none() {
        return Ok(None);
    }
    let facts = Facts::new(server, topic, text(store).unwrap_or_default(), fields);
    facts.map(Some).ok_or_else(|| odd(operation))
}

/// Makes a topic, over a foreign stream if one is named; whether it was not there before.
pub(crate) async fn create(
    server: &Server,
    operation: &'static str,
    spec: &TopicSpec,
    foreign: Option<&str>,
) -> Result<(Facts, bool)> {
    check(spec)?;
    let (keys, config) = (&server.resolved.keys, &server.resolved.config);
    let partitions = match foreign {
        Some(_) => 1,
        None => spec.partitions.unwrap_or(config.partitions),
    };
    let retention = spec.retention.unwrap_or(config.retention);
    let [mark, incarnation] = [(); 2].map(|()| Uuid::new_v4().simple().to_string());
    let args = vec![
        mark.into(),
        spec.topic.as_str().into(),
        incarnation.into(),
        Value::Integer(partitions.into()),
        Value::Integer(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX)),
        foreign.unwrap_or_default().into(),
    ];
    let all = [keys.topic(&spec.topic), keys.topics(), keys.store()];
    let answer = server.link.run(operation, &CREATE, &all, args).await?;
    let mut answer = list(answer).into_iter().map(text);
    let made = answer.next().flatten().as_deref() == Some("1");
    let fields = four(answer.by_ref().take(4).collect());
    let store = answer.next().flatten().unwrap_or_default();
    let facts = Facts::new(server, &spec.topic, store, fields);
    Ok((facts.ok_or_else(|| odd(operation))?, made))
}

fn check(spec: &TopicSpec) -> Result<()> {
    let refused = |message: &str, remedy: &str| {
        let message = format!("topic `{}`: {message}", spec.topic);
        Err(error(ErrorKind::Invalid, "ensure", message, remedy))
    };
    if spec
        .partitions
        .is_some_and(|count| !(1..=1_024).contains(&count))
    {
        return refused(
            "the number of partitions is out of range",
            "choose 1 to 1,024",
        );
    }
    if spec.cleanup == Some(Cleanup::Compact) {
        return Err(interline_core::Error::unsupported(
            crate::SCHEME,
            "compact a topic",
        ));
    }
    if spec.retention.is_some_and(|retention| retention.is_zero()) {
        return refused(
            "a retention of nothing keeps no event",
            "choose 1 ms or more",
        );
    }
    Ok(())
}

/// How a topic that is there differs from its template.
pub(crate) fn compare(facts: &Facts, spec: &TopicSpec) -> Ensured {
    let mut drift = Vec::new();
    let is = facts.partitions();
    if let Some(wanted) = spec.partitions.filter(|wanted| *wanted != is) {
        drift.push(format!("partitions: {is} instead of {wanted}"));
    }
    let is = facts.retention;
    if let Some(wanted) = spec.retention.filter(|wanted| *wanted != is) {
        drift.push(format!("retention: {is:?} instead of {wanted:?}"));
    }
    match drift.is_empty() {
        true => Ensured::Exists,
        false => Ensured::Drift(drift),
    }
}

/// The names of all topics.
pub(crate) async fn names(server: &Server, operation: &'static str) -> Result<Vec<Topic>> {
    let key = vec![Value::Bytes(server.resolved.keys.topics())];
    let names = server.link.call(operation, "SMEMBERS", key).await?;
    let names = texts(names).into_iter().flatten();
    let mut names: Vec<Topic> = names.filter_map(|name| Topic::system(name).ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// Deletes a topic with its groups; a foreign stream stays.
pub(crate) async fn delete(server: &Server, facts: &Facts) -> Result<()> {
    let keys = &server.resolved.keys;
    let topic = &facts.topic;
    let mut all = vec![keys.topics(), keys.topic(topic), keys.groups(topic)];
    all.extend(keys.seen(topic));
    let groups = vec![Value::Bytes(keys.groups(topic))];
    let groups = server.link.call("delete topic", "HKEYS", groups).await?;
    for group in texts(groups).into_iter().flatten() {
        if let Ok(group) = interline_core::Group::new(group) {
            all.extend(keys.group(topic, &group));
        }
    }
    if facts.is_dense {
        all.extend(facts.streams.iter().cloned());
    }
    let name = vec![topic.as_str().into()];
    server.forget(topic);
    let deleted = server.link.run("delete topic", &DELETE, &all, name).await;
    deleted.map(|_| ())
}

/// Removes what is older than the retention and settled by every active group; how many events
/// were removed. Nothing happens if somebody did so less than `since` ago.
pub(crate) async fn trim(server: &Server, facts: &Facts, since: Duration) -> Result<u64> {
    let mut keys = vec![facts.key.clone(), server.resolved.keys.groups(&facts.topic)];
    keys.extend(facts.streams.iter().cloned());
    let args = vec![
        Value::Bytes(facts.incarnation.clone()),
        Value::Integer(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
    ];
    let removed = server.link.run("trim", &TRIM, &keys, args).await?;
    reply::number(removed).ok_or_else(|| odd("trim"))
}
