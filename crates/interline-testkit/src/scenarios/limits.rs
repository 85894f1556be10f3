//! Limits hold before anything is sent, with a typed error.

use bytes::Bytes;
use interline_core::{
    Admin, Envelope, ErrorKind, EventId, Group, HeaderName, Outcome, Outgoing, Topic, Transport,
    limits,
};

use super::scenario;
use crate::scene::{Scene, event, noise};
use crate::{Harness, Scenario, Verdict, check, check_eq};

pub(crate) const ALL: &[Scenario] = &[
    scenario!(payload_limit),
    scenario!(header_limits),
    scenario!(key_limit),
    scenario!(reserved_names_are_refused),
    scenario!(a_missing_topic_is_no_crash),
];

/// The largest payload is stored and comes back; one byte more is refused.
async fn payload_limit(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let max = scene
        .transport
        .capabilities()
        .max_payload
        .min(limits::MAX_PAYLOAD);
    let largest = event("limit", 0)?.with_payload(Some(noise(max)));
    stored(&scene, largest.clone()).await?;
    refused(
        &scene,
        event("limit", 1)?.with_payload(Some(noise(max + 1))),
    )
    .await?;
    let records = scene.records().await?;
    check_eq!(records.len(), 1, "records");
    check!(
        records[0].1.envelope == largest,
        "the largest event came back changed"
    );
    Ok(())
}

/// The most headers and header bytes are stored; more are refused.
async fn header_limits(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let with = |count: usize, size: usize| {
        let mut envelope = event("limit", 0)?.with_id(EventId::new());
        for number in 0..count {
            let name = HeaderName::new(format!("x-{number:03}"))?;
            envelope
                .headers_mut()
                .push(name, Bytes::from(vec![b'v'; size]));
        }
        Verdict::Ok(envelope)
    };
    let most = with(limits::MAX_HEADERS, 10)?;
    stored(&scene, most.clone()).await?;
    refused(&scene, with(limits::MAX_HEADERS + 1, 10)?).await?;
    let name = "x-000".len();
    let largest = with(1, limits::MAX_HEADER_BYTES - name)?;
    stored(&scene, largest.clone()).await?;
    refused(&scene, with(1, limits::MAX_HEADER_BYTES - name + 1)?).await?;
    let records = scene.records().await?;
    let same = records
        .iter()
        .map(|(_, record)| &record.envelope)
        .eq([&most, &largest]);
    check!(same, "headers at the limit came back changed");
    Ok(())
}

/// A key beyond the limit is refused.
async fn key_limit(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let keyed = |size| Verdict::Ok(event("", 0)?.with_key(Some(noise(size).into())));
    refused(&scene, keyed(limits::MAX_KEY + 1)?).await?;
    check!(
        scene.records().await?.is_empty(),
        "a refused event was stored"
    );
    Ok(())
}

/// Names that brokers or interline give a meaning to are refused before anything is sent.
async fn reserved_names_are_refused(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    for name in [
        "interline-due",
        "ce_id",
        "CE-type",
        "Nats-Msg-Id",
        "content-type",
        "a:b",
        "",
    ] {
        check!(
            HeaderName::new(name).is_err(),
            "the header {name:?} is allowed"
        );
    }
    for name in ["a.dlq", "a.retry", "a b", "a/b", "", "..", "a>", "*", "a\n"] {
        check!(Topic::new(name).is_err(), "the topic {name:?} is allowed");
    }
    for name in ["a.b", "", "a b", "a:b"] {
        check!(Group::new(name).is_err(), "the group {name:?} is allowed");
    }
    let system = scene.topic.dlq(&scene.group);
    let published = scene.bus.publish_raw(vec![(system, event("a", 0)?)]).await;
    let kind = published.err().map(|error| error.kind());
    check_eq!(
        kind,
        Some(ErrorKind::Invalid),
        "publishing to a dead-letter topic"
    );
    Ok(())
}

/// A topic that is not there is made, or named in a typed error; never a silent loss.
async fn a_missing_topic_is_no_crash(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let topic = harness.fresh_topic("conf.missing")?;
    let outgoing = Outgoing::new(topic.clone(), event("a", 0)?);
    let admin = scene.transport.admin();
    match scene.outcomes(vec![outgoing]).await?.pop() {
        Some(Outcome::Stored { .. }) => {
            let known = admin
                .topics(&interline_core::Pattern::exact(topic.as_str()))
                .await?;
            check_eq!(known.len(), 1, "topics called {topic}");
        }
        Some(Outcome::Rejected(error)) => {
            check_eq!(error.kind(), ErrorKind::NotFound, "kind of {error}");
            check!(
                error.to_string().contains(topic.as_str()),
                "{error} names no topic"
            );
        }
        other => check!(false, "{other:?}"),
    }
    Ok(())
}

async fn stored(scene: &Scene<'_>, envelope: Envelope) -> Verdict {
    scene.publish_all(vec![envelope]).await
}

async fn refused(scene: &Scene<'_>, envelope: Envelope) -> Verdict {
    let outgoing = Outgoing::new(scene.topic.clone(), envelope);
    match scene.outcomes(vec![outgoing]).await?.pop() {
        Some(Outcome::Rejected(error)) => {
            check_eq!(error.kind(), ErrorKind::Limit, "kind of {error}");
            check!(error.remedy_text().is_some(), "{error} names no remedy");
        }
        other => check!(false, "an event beyond the limit: {other:?}"),
    }
    Ok(())
}
