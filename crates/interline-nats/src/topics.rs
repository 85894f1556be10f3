//! Making streams and comparing them with what they should be.

use std::time::Duration;

use futures_util::future::try_join_all;
use interline_core::{
    Cleanup, Ensured, Error, ErrorKind, Pattern, Result, SubscribeSpec, Topic, TopicSpec,
};
use serde_json::json;

use crate::SCHEME;
use crate::api::{Done, StreamInfo, StreamNames};
use crate::error::{code, error};
use crate::hub::{Hub, stream_info};
use crate::link::Session;

/// Partitions of a topic that nobody gave a number.
const PARTITIONS: u32 = 12;

/// The most partitions: each is a subject of the stream.
const MOST_PARTITIONS: u32 = 4_096;

/// How long events are kept unless it is said otherwise.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// For how long a stream recognises copies.
pub(crate) const DEDUPE: Duration = Duration::from_secs(120);

/// The first version of the server that stores batches as a whole.
const BATCHES: (u32, u32) = (2, 12);

/// Where a stream keeps how many partitions its topic has.
pub(crate) const PARTITIONS_KEY: &str = "interline.partitions";

/// How many replicas a stream gets that nobody gave a number.
pub(crate) fn replicas(session: &Session) -> usize {
    match session.info.cluster {
        Some(_) => 3,
        None => 1,
    }
}

/// Makes a topic; one that is there already is fine and stays as it is.
pub(crate) async fn create(
    hub: &Hub,
    operation: &'static str,
    spec: &TopicSpec,
) -> Result<Ensured> {
    check(operation, spec)?;
    let session = hub.main.session(operation).await?;
    let stream = hub.names().stream(&spec.topic);
    let partitions = spec.partitions.unwrap_or(PARTITIONS);
    let subjects: Vec<String> = (0..partitions)
        .map(|partition| hub.names().subject(&spec.topic, partition))
        .collect();
    let retention = spec.retention.unwrap_or(RETENTION);
    let mut config = json!({
        "name": stream,
        "description": format!("interline topic {}", spec.topic),
        "subjects": subjects,
        "retention": "limits",
        "storage": "file",
        // A full stream refuses events; by default it would drop old ones that nobody has read.
        "discard": "new",
        "max_age": nanos(retention),
        "duplicate_window": nanos(DEDUPE.min(retention)),
        "num_replicas": spec.replication.map_or_else(|| replicas(&session), usize::from),
        "metadata": { PARTITIONS_KEY: partitions.to_string() },
    });
    if hub.syncs.always && session.version() >= Some(BATCHES) {
        config["allow_atomic"] = true.into();
    }
    let what = format!("STREAM.CREATE.{stream}");
    match session.ask::<Done>(operation, &what, &config).await {
        Ok(_) => Ok(Ensured::Created),
        Err(failed) if failed.is(code::STREAM_EXISTS) => Ok(Ensured::Exists),
        Err(failed) => Err(failed.error(operation)),
    }
}

fn check(operation: &'static str, spec: &TopicSpec) -> Result<()> {
    let invalid =
        |message: &str, remedy: String| Err(error(ErrorKind::Invalid, operation, message, remedy));
    if spec.cleanup == Some(Cleanup::Compact) {
        return Err(Error::unsupported(
            SCHEME,
            "keep the last event of each key",
        ));
    }
    if !(1..=MOST_PARTITIONS).contains(&spec.partitions.unwrap_or(PARTITIONS)) {
        let remedy = format!("ask for 1 to {MOST_PARTITIONS}");
        return invalid("this number of partitions is out of range", remedy);
    }
    // The server takes no shorter one than 100 ms.
    if spec
        .retention
        .is_some_and(|time| time < Duration::from_millis(100))
    {
        return invalid(
            "the retention is too short",
            "ask for 1s or more".to_owned(),
        );
    }
    Ok(())
}

/// How a topic that is there differs from its template.
pub(crate) async fn compare(hub: &Hub, spec: &TopicSpec) -> Result<Ensured> {
    check("ensure", spec)?;
    let session = hub.main.session("ensure").await?;
    let stream = hub.names().stream(&spec.topic);
    let info = stream_info(&session, "ensure", &stream).await;
    let info = info.map_err(|failed| hub.missing_or("ensure", &spec.topic, failed))?;
    let drift = drift(spec, &info);
    Ok(if drift.is_empty() {
        Ensured::Exists
    } else {
        Ensured::Drift(drift)
    })
}

fn drift(spec: &TopicSpec, info: &StreamInfo) -> Vec<String> {
    let mut drift = Vec::new();
    let mut differs = |what: &str, is: &dyn std::fmt::Display, wanted: &dyn std::fmt::Display| {
        let (is, wanted) = (is.to_string(), wanted.to_string());
        if is != wanted {
            drift.push(format!("{what}: {is} instead of {wanted}"));
        }
    };
    let config = &info.config;
    if let Some(partitions) = spec.partitions {
        let is = config
            .metadata
            .get(PARTITIONS_KEY)
            .map_or("1", String::as_str);
        differs("partitions", &is, &partitions);
    }
    if let Some(replicas) = spec.replication {
        differs("replicas", &config.num_replicas, &replicas);
    }
    if let Some(retention) = spec.retention {
        let is = Duration::from_nanos(config.max_age);
        differs("retention in s", &is.as_secs(), &retention.as_secs());
    }
    if config.metadata.contains_key(PARTITIONS_KEY) {
        differs("discard", &config.discard, &"new");
        differs(
            "messages per subject",
            &config.max_msgs_per_subject.max(-1),
            &-1,
        );
    }
    drift
}

/// Deletes the stream of a topic; a missing one is fine.
pub(crate) async fn delete(hub: &Hub, topic: &Topic) -> Result<()> {
    let session = hub.main.session("delete topic").await?;
    let what = format!("STREAM.DELETE.{}", hub.names().stream(topic));
    hub.forget(topic);
    match session.ask::<Done>("delete topic", &what, &()).await {
        Err(failed) if !failed.is(code::STREAM_NOT_FOUND) => Err(failed.error("delete topic")),
        _ => Ok(()),
    }
}

/// A time as JetStream writes it.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The topics of this namespace that interline made, sorted.
pub(crate) async fn list(hub: &Hub, operation: &'static str) -> Result<Vec<Topic>> {
    let session = hub.main.session(operation).await?;
    let mut topics = Vec::new();
    for name in names(&session, operation).await? {
        let Some(topic) = hub.names().to_topic(&name) else {
            continue;
        };
        let facts = match hub.facts(operation, &topic).await {
            // Deleted since the names were listed.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            facts => facts?,
        };
        if !facts.is_foreign() {
            topics.push(topic);
        }
    }
    topics.sort_unstable();
    Ok(topics)
}

/// The names of all streams; the server gives them in pages.
async fn names(session: &Session, operation: &'static str) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    loop {
        let page: StreamNames = session
            .ask(operation, "STREAM.NAMES", &json!({ "offset": names.len() }))
            .await
            .map_err(|failed| failed.error(operation))?;
        let streams = page.streams.unwrap_or_default();
        let is_last = streams.is_empty() || names.len() + streams.len() >= page.total;
        names.extend(streams);
        if is_last {
            return Ok(names);
        }
    }
}

/// The topics that a subscription covers and that exist. Named ones are asked for one by one, so
/// that whoever names all topics needs no permission to list them.
pub(crate) async fn covered(hub: &Hub, spec: &SubscribeSpec) -> Result<Vec<Topic>> {
    let mut topics = Vec::new();
    let has_stars = spec
        .topics
        .iter()
        .any(|pattern| pattern.as_exact().is_none());
    if has_stars {
        let all = list(hub, "subscribe").await?;
        topics.extend(all.into_iter().filter(|topic| spec.covers(topic)));
    }
    for name in spec.topics.iter().filter_map(Pattern::as_exact) {
        let topic = Topic::system(name)?;
        if spec.returns && !topic.is_system() {
            topics.push(topic.retry(&spec.group));
        }
        topics.push(topic);
    }
    topics.sort_unstable();
    topics.dedup();
    let asked = topics.into_iter().map(|topic| async move {
        match hub.ask("subscribe", &topic).await {
            Ok(_) => Ok(Some(topic)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    });
    Ok(try_join_all(asked).await?.into_iter().flatten().collect())
}
