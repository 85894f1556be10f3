//! The two key-value buckets: leases with their checkpoints, and the members that live.
//!
//! They are what `nats kv` calls buckets, so that people can look into them.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use bytes::Bytes;
use interline_core::{ErrorKind, Result, planted};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{Done, Failed, StreamInfo, read};
use crate::error::{code, error};
use crate::hub::Hub;
use crate::link::Session;
use crate::names::{bucket_stream, bucket_subject};
use crate::topics::{nanos, replicas};

/// How long the server keeps a member that does not show itself. It looks for old keys only now
/// and then, up to a second late, so that a lease takes 14 to 15 s.
pub(crate) const LEASE: Duration = Duration::from_secs(14);

/// What the server answers to a write.
#[derive(Deserialize)]
struct Written {
    seq: u64,
}

/// Makes sure that the buckets are there: creates them in development, else says how to.
pub(crate) async fn require(hub: &Hub, session: &Session, operation: &'static str) -> Result<()> {
    for (bucket, max_age) in buckets(hub) {
        let what = format!("STREAM.INFO.{}", bucket_stream(&bucket));
        match session.ask::<StreamInfo>(operation, &what, &()).await {
            Ok(info) => check_age(operation, &info, max_age)?,
            Err(failed) if failed.is(code::STREAM_NOT_FOUND) && hub.is_development() => {
                create(session, operation, &bucket, max_age).await?;
            }
            Err(failed) if failed.is(code::STREAM_NOT_FOUND) => {
                return Err(missing(operation, &bucket, max_age));
            }
            Err(failed) => return Err(failed.error(operation)),
        }
    }
    Ok(())
}

/// Makes the buckets that are missing.
pub(crate) async fn ensure(hub: &Hub, session: &Session, operation: &'static str) -> Result<()> {
    for (bucket, max_age) in buckets(hub) {
        create(session, operation, &bucket, max_age).await?;
    }
    Ok(())
}

fn buckets(hub: &Hub) -> [(String, Duration); 2] {
    let names = hub.names();
    [(names.leases(), Duration::ZERO), (names.members(), LEASE)]
}

async fn create(
    session: &Session,
    operation: &'static str,
    bucket: &str,
    max_age: Duration,
) -> Result<()> {
    let stream = bucket_stream(bucket);
    let mut config = json!({
        "name": stream,
        "subjects": [bucket_subject(bucket, ">")],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "num_replicas": replicas(session),
        "allow_direct": true,
        "allow_rollup_hdrs": true,
        "deny_delete": true,
    });
    if !max_age.is_zero() {
        config["max_age"] = nanos(max_age).into();
        // It may not be longer than what is kept.
        config["duplicate_window"] = nanos(max_age).into();
    }
    let what = format!("STREAM.CREATE.{stream}");
    match session.ask::<Done>(operation, &what, &config).await {
        Err(failed) if !failed.is(code::STREAM_EXISTS) => Err(failed.error(operation)),
        _ => Ok(()),
    }
}

/// Keys that are kept for another time would end leases early or never, or forget checkpoints.
fn check_age(operation: &'static str, info: &StreamInfo, max_age: Duration) -> Result<()> {
    let is = Duration::from_nanos(info.config.max_age);
    if is == max_age {
        return Ok(());
    }
    let stream = info.config.name.escape_debug();
    let (is, wanted) = (is.as_secs_f32(), max_age.as_secs());
    Err(error(
        ErrorKind::Config,
        operation,
        format!("the stream `{stream}` keeps keys for {is} s and not for {wanted} s (0: for ever)"),
        format!("`nats stream edit {stream} --max-age {wanted}s --dupe-window {wanted}s`"),
    ))
}

fn missing(operation: &'static str, bucket: &str, max_age: Duration) -> interline_core::Error {
    let ttl = if max_age.is_zero() {
        String::new()
    } else {
        format!(" --ttl {}s", max_age.as_secs())
    };
    error(
        ErrorKind::Config,
        operation,
        format!("the bucket `{bucket}` for leases does not exist"),
        format!(
            "create it: `nats kv add {bucket} --history 1{ttl}`; `interline topics create` does \
             it too"
        ),
    )
}

/// Writes a key if it still stands at `revision` (0: does not exist); its new revision.
pub(crate) async fn write(
    session: &Session,
    operation: &'static str,
    subject: String,
    value: impl Into<Bytes>,
    revision: u64,
) -> Result<u64, Failed> {
    let mut headers = HeaderMap::new();
    if !planted::is("unfenced-commit") {
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string());
    }
    put_with(session, operation, subject, value.into(), Some(headers)).await
}

/// Writes a key however it stands.
pub(crate) async fn put(
    session: &Session,
    operation: &'static str,
    subject: String,
) -> Result<u64, Failed> {
    put_with(session, operation, subject, Bytes::new(), None).await
}

async fn put_with(
    session: &Session,
    operation: &'static str,
    subject: String,
    value: Bytes,
    headers: Option<HeaderMap>,
) -> Result<u64, Failed> {
    let answer = session.request(operation, subject, headers, value).await?;
    let written: Written = read(operation, &answer.payload)?;
    Ok(written.seq)
}

/// The subjects that are kept in a stream and match `filter`.
pub(crate) async fn subjects(
    session: &Session,
    operation: &'static str,
    stream: &str,
    filter: &str,
) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    loop {
        let body = json!({ "subjects_filter": filter, "offset": found.len() });
        let info: StreamInfo = session
            .ask(operation, &format!("STREAM.INFO.{stream}"), &body)
            .await
            .map_err(|failed| failed.error(operation))?;
        let is_last =
            info.state.subjects.is_empty() || found.len() + info.state.subjects.len() >= info.total;
        found.extend(info.state.subjects.into_keys());
        if is_last {
            return Ok(found);
        }
    }
}

/// Removes every trace of the subjects that match `filter`.
pub(crate) async fn purge(
    session: &Session,
    operation: &'static str,
    stream: &str,
    filter: &str,
) -> Result<()> {
    let body = json!({ "filter": filter });
    let purged = session
        .ask::<Value>(operation, &format!("STREAM.PURGE.{stream}"), &body)
        .await;
    match purged {
        Err(failed) if !failed.is(code::STREAM_NOT_FOUND) => Err(failed.error(operation)),
        _ => Ok(()),
    }
}
