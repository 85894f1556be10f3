//! Publishing: what is stored is what was given, where it belongs, and the outcome says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use interline_core::{
    Admin, Envelope, ErrorKind, EventId, HeaderName, Key, Kind, Outcome, Outgoing, Pattern,
    Publisher, PublisherOptions, SubscribeSpec, Timestamp, Topic, TopicSpec, Transport, limits,
};

use super::{dedupe, scenario};
use crate::member::{Member, Seen, records_of};
use crate::scene::{Scene, event, key_of, kind, made_topic, noise, number_of, read_all};
use crate::{Harness, Scenario, Verdict, check, check_eq};

pub(crate) const ALL: &[Scenario] = &[
    scenario!(exact_bytes_and_headers),
    scenario!(every_attribute_survives),
    scenario!(odd_keys),
    scenario!(odd_names),
    scenario!(batch_outcomes_in_order),
    scenario!(many_publishers_lose_nothing),
    scenario!(nothing_is_passed_while_many_publish),
    scenario!(awaited_publishes_of_a_key_stay_in_order),
    scenario!(a_copy_is_recognised, dedupe),
    scenario!(one_id_on_two_topics),
    scenario!(flush_leaves_nothing_behind),
    scenario!(publisher_counts),
];

/// Payloads and headers come back byte for byte, in order, with duplicates and empty values; no
/// payload differs from an empty one.
async fn exact_bytes_and_headers(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let every_byte: Bytes = (0..=255_u8).collect::<Vec<_>>().into();
    let payloads = [
        None,
        Some(Bytes::new()),
        Some(every_byte.clone()),
        Some(noise(100_000)),
    ];
    let mut published = Vec::new();
    for payload in payloads {
        let mut envelope = Envelope::builder(kind()?)
            .key("exact")
            .build()?
            .with_payload(payload);
        let headers = envelope.headers_mut();
        for (name, value) in [
            ("x-first", Bytes::from_static(b"1")),
            ("X-Twice", Bytes::from_static(b"once")),
            ("x-empty", Bytes::new()),
            ("X-Twice", Bytes::from_static(b"again")),
            ("x.binary_~!", every_byte.clone()),
        ] {
            headers.push(HeaderName::new(name)?, value);
        }
        published.push(envelope);
    }
    scene.publish_all(published.clone()).await?;
    let stored = scene.records().await?;
    check_eq!(stored.len(), published.len(), "records");
    for ((_, record), envelope) in stored.iter().zip(&published) {
        let (found, given) = (&record.envelope, envelope);
        check_eq!(found.payload(), given.payload(), "payload");
        let headers = |envelope: &Envelope| {
            let all = envelope.headers().iter();
            all.map(|(name, value)| (name.clone(), value.clone()))
                .collect::<Vec<_>>()
        };
        check_eq!(headers(found), headers(given), "headers");
        check!(found == given, "an envelope came back changed: {found:?}");
        check!(
            !found.is_foreign(),
            "an own event is taken for a foreign one"
        );
    }
    Ok(())
}

/// Every attribute of CloudEvents comes back, with ids of any form and times to the nanosecond.
async fn every_attribute_survives(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let kind = Kind::new("urn:shop:über?a=b#c", "shop.order.placed.v2")?
        .content_type("application/vnd.shop+json; charset=utf-8")
        .schema("https://schemas.example/order?v=2");
    let parent = event("parent", 0)?;
    let full = Envelope::builder(kind)
        .id(EventId::parse("order/1 ü \"quoted\" %25")?)
        .time("2018-04-05T17:31:00.123456789+02:00".parse()?)
        .subject("order/1; ä")
        .key("full")
        .tenant("acme")
        .attribute(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .attribute("tracestate", "rojo=00f067aa0ba902b7")
        .attribute("myextension1", "a value with spaces, ünïcödé and %")
        .payload("{}")
        .build()?
        .caused_by(&parent);
    let bare = Envelope::builder(Kind::new("/", "x")?)
        .key("full")
        .build()?;
    let published = vec![full, bare];
    scene.publish_all(published.clone()).await?;
    let stored = scene.records().await?;
    check_eq!(stored.len(), published.len(), "records");
    for ((_, record), given) in stored.iter().zip(&published) {
        let found = &record.envelope;
        check_eq!(found.id(), given.id(), "id");
        check_eq!(
            found.kind(),
            given.kind(),
            "source, type, content type and schema"
        );
        check_eq!(found.time(), given.time(), "time");
        check_eq!(found.subject(), given.subject(), "subject");
        check_eq!(
            found.attributes(),
            given.attributes(),
            "extension attributes"
        );
        check!(found == given, "an envelope came back changed: {found:?}");
    }
    Ok(())
}

/// Keys of any bytes round-trip, and a key always finds the same partition.
async fn odd_keys(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 5).await?;
    let mut keys: Vec<Bytes> = [
        "",
        " ",
        "\0",
        "a\0b",
        "*",
        ">",
        ".",
        "..",
        "{}",
        "{a}",
        "a:b",
        "\r\n",
        "'",
        "\"",
        "';--",
        "%00",
        "$(id)",
        "../..",
        "😀",
        "مفتاح",
        "ключ",
        "\u{202e}x",
        "null",
        "-1",
    ]
    .into_iter()
    .map(|key| Bytes::from_static(key.as_bytes()))
    .collect();
    keys.push(Bytes::from_static(&[0xff, 0xfe, 0x00, 0x80]));
    keys.push(noise(limits::MAX_KEY.min(8 << 10)));
    let keyed = |key: &Bytes| {
        Ok(event("", 0)?
            .with_id(EventId::new())
            .with_key(Some(key.clone().into())))
    };
    let twice = keys.iter().chain(&keys).map(keyed);
    scene.publish_all(twice.collect::<Verdict<_>>()?).await?;
    let none = (0..6).map(|_| Ok(event("", 0)?.with_key(None)));
    scene.publish_all(none.collect::<Verdict<_>>()?).await?;
    let mut places: BTreeMap<Option<Bytes>, (BTreeSet<u32>, usize)> = BTreeMap::new();
    for (partition, record) in scene.records().await? {
        let place = places
            .entry(record.envelope.key().map(Key::to_bytes))
            .or_default();
        place.0.insert(partition);
        place.1 += 1;
    }
    for key in keys {
        let Some((partitions, copies)) = places.remove(&Some(key.clone())) else {
            check!(false, "the key {key:?} did not come back");
            continue;
        };
        check_eq!(copies, 2, "events with the key {key:?}");
        check_eq!(partitions.len(), 1, "partitions of the key {key:?}");
    }
    let unkeyed = places.remove(&None).unwrap_or_default();
    check_eq!(unkeyed.1, 6, "events without a key");
    check!(
        places.is_empty(),
        "keys that nobody published: {:?}",
        places.keys()
    );
    Ok(())
}

/// Names that an encoding might confuse name different topics and groups.
async fn odd_names(harness: &Harness) -> Verdict {
    let transport = harness.connect().await?;
    let end = Harness::fresh("x");
    let names = [
        "a.b", "a_b", "a-b", "A.b", "a.B", "a__b", "a.b.c", "a-.b", "_a.b",
    ];
    let publisher = transport.publisher(PublisherOptions::default()).await?;
    let mut topics = Vec::new();
    for name in names {
        let topic = Topic::new(format!("{name}-{end}"))?;
        let spec = TopicSpec::new(topic.clone()).partitions(1);
        if transport.capabilities().manage_topics {
            match transport.admin().ensure(vec![spec]).await {
                // A broker may refuse what it could confuse.
                Err(error) if error.kind() == ErrorKind::Invalid => continue,
                made => made?,
            };
        }
        let outgoing = Outgoing::new(topic.clone(), event(name, 0)?);
        for outcome in publisher.enqueue(vec![outgoing]).await?.await {
            let _stored = outcome.into_result()?;
        }
        topics.push((name, topic));
    }
    check!(
        topics.len() > names.len() / 2,
        "only {} names are taken",
        topics.len()
    );
    for (name, topic) in topics {
        let records = read_all(harness, &transport, &topic).await?;
        let keys: Vec<_> = records
            .iter()
            .map(|(_, record)| key_of(&record.envelope))
            .collect();
        check_eq!(keys, [name.to_owned()], "events of `{topic}`");
    }
    Ok(())
}

/// One outcome per event, in order; an event that breaks a limit is refused alone.
async fn batch_outcomes_in_order(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let max = scene
        .transport
        .capabilities()
        .max_payload
        .min(limits::MAX_PAYLOAD);
    let mut batch = Vec::new();
    for number in 0..20 {
        let envelope = event("batch", number)?;
        let large = number % 5 == 3;
        let envelope = if large {
            envelope.with_payload(Some(noise(max + 1)))
        } else {
            envelope
        };
        batch.push(Outgoing::new(scene.topic.clone(), envelope));
    }
    let outcomes = scene.outcomes(batch).await?;
    let mut last = None;
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Outcome::Stored {
                position,
                durability,
                ..
            } if number % 5 != 3 => {
                check!(last < Some(position), "position {position} after {last:?}");
                last = Some(position);
                let declared = scene.transport.capabilities().durability;
                check!(durability >= declared, "{durability} instead of {declared}");
            }
            Outcome::Rejected(error) if number % 5 == 3 => {
                check_eq!(error.kind(), ErrorKind::Limit, "kind of {error}");
            }
            other => check!(false, "event {number} of the batch: {other:?}"),
        }
    }
    let stored = scene.records().await?;
    let numbers: Verdict<Vec<_>> = stored.iter().map(|(_, r)| number_of(&r.envelope)).collect();
    let expected: Vec<_> = (0..20).filter(|number| number % 5 != 3).collect();
    check_eq!(numbers?, expected, "stored events");
    Ok(())
}

/// 10,000 events from 20 publishers that publish at the same time: every one is stored once.
async fn many_publishers_lose_nothing(harness: &Harness) -> Verdict {
    const PUBLISHERS: usize = 20;
    const EVENTS: u64 = 500;
    let scene = Scene::new(harness, 6).await?;
    let publishing = (0..PUBLISHERS).map(|publisher| {
        let (transport, topic) = (scene.transport.clone(), scene.topic.clone());
        async move {
            let handle = transport.publisher(PublisherOptions::default()).await?;
            let key = format!("publisher-{publisher}");
            for first in (0..EVENTS).step_by(25) {
                let batch =
                    (first..first + 25).map(|n| Ok(Outgoing::new(topic.clone(), event(&key, n)?)));
                for outcome in handle.enqueue(batch.collect::<Verdict<_>>()?).await?.await {
                    let _stored = outcome.into_result()?;
                }
            }
            Verdict::Ok(())
        }
    });
    harness
        .within("20 publishers", try_join_all(publishing))
        .await??;
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for (_, record) in scene.records().await? {
        let (key, number) = (key_of(&record.envelope), number_of(&record.envelope)?);
        let next = last.entry(key.clone()).or_insert(0);
        check_eq!(number, *next, "the next event of {key}");
        *next += 1;
    }
    check_eq!(last.len(), PUBLISHERS, "publishers");
    check!(
        last.values().all(|next| *next == EVENTS),
        "events are missing: {last:?}"
    );
    Ok(())
}

/// A group that reads while many publish gets every event: it never passes one whose publish began
/// before that of its neighbours and ends after it.
async fn nothing_is_passed_while_many_publish(harness: &Harness) -> Verdict {
    const EVENTS: u64 = 400;
    let scene = Scene::new(harness, 1).await?;
    let topics = vec![Pattern::exact(scene.topic.as_str())];
    let spec = SubscribeSpec::new(scene.group.clone(), topics);
    let member = Member::join(harness, &scene.transport, spec).await?;
    member.owns(1).await?;
    // Batches of different sizes end out of the order in which they began.
    let publishing = (1..=8_u64).map(|publisher| {
        let (transport, topic) = (scene.transport.clone(), scene.topic.clone());
        async move {
            let handle = transport.publisher(PublisherOptions::default()).await?;
            let key = format!("publisher-{publisher}");
            let events: Vec<u64> = (0..EVENTS).collect();
            for numbers in events.chunks(5 * publisher as usize) {
                let outgoing = |n: &u64| Ok(Outgoing::new(topic.clone(), event(&key, *n)?));
                let batch = numbers.iter().map(outgoing).collect::<Verdict<_>>()?;
                for outcome in handle.enqueue(batch).await?.await {
                    let _stored = outcome.into_result()?;
                }
            }
            Verdict::Ok(())
        }
    });
    harness
        .within("8 publishers", try_join_all(publishing))
        .await??;
    // Behind everything else in the only partition.
    scene.publish(&[("last".to_owned(), 0)]).await?;
    let read = member
        .until("the last event", |seen| match seen.last() {
            Some(Seen::Record(_, record)) if key_of(&record.envelope) == "last" => {
                Some(records_of(seen))
            }
            _ => None,
        })
        .await?;
    let found: Verdict<BTreeSet<_>> = read
        .iter()
        .map(|(_, r)| Ok((key_of(&r.envelope), number_of(&r.envelope)?)))
        .collect();
    let (read, found) = (read.len() as u64 - 1, found?.len() as u64 - 1);
    check_eq!((read, found), (8 * EVENTS, 8 * EVENTS), "records");
    member.leave().await
}

/// Events of one key, each awaited before the next, have growing positions in one partition.
async fn awaited_publishes_of_a_key_stay_in_order(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 4).await?;
    let mut last = None;
    for number in 0..50 {
        let outgoing = Outgoing::new(scene.topic.clone(), event("one", number)?);
        match scene.outcomes(vec![outgoing]).await?.pop() {
            Some(Outcome::Stored {
                partition,
                position,
                ..
            }) => {
                let fits = last.is_none_or(|(was, at)| was == partition && at < position);
                check!(
                    fits,
                    "event {number} is at {partition} {position} after {last:?}"
                );
                last = Some((partition, position));
            }
            other => check!(false, "event {number}: {other:?}"),
        }
    }
    Ok(())
}

/// An event published again under its id is not stored again, and its outcome says so.
async fn a_copy_is_recognised(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 3).await?;
    let envelope = event("copy", 1)?;
    let once = || Outgoing::new(scene.topic.clone(), envelope.clone());
    let outcomes = scene.outcomes(vec![once(), once()]).await?;
    check!(
        matches!(outcomes[0], Outcome::Stored { .. }),
        "first: {:?}",
        outcomes[0]
    );
    check!(
        matches!(outcomes[1], Outcome::Duplicate { .. }),
        "in a batch: {:?}",
        outcomes[1]
    );
    let other = harness
        .connect()
        .await?
        .publisher(PublisherOptions::default())
        .await?;
    let outcomes = other.enqueue(vec![once()]).await?.await;
    check!(
        matches!(outcomes[0], Outcome::Duplicate { .. }),
        "elsewhere: {:?}",
        outcomes[0]
    );
    let text = |source: &'static str| {
        let kind = Arc::new(Kind::new(source, "x")?);
        let id = EventId::parse("order-1")?;
        let envelope = Envelope::builder(kind).id(id).key("copy").build()?;
        Verdict::Ok(Outgoing::new(scene.topic.clone(), envelope))
    };
    let outcomes = scene
        .outcomes(vec![text("/a")?, text("/b")?, text("/a")?])
        .await?;
    let duplicates: Vec<_> = outcomes
        .iter()
        .map(|o| matches!(o, Outcome::Duplicate { .. }))
        .collect();
    check_eq!(
        duplicates,
        [false, false, true],
        "identity is source and id together"
    );
    check_eq!(scene.records().await?.len(), 3, "records");
    Ok(())
}

/// The same event on two topics is two events.
async fn one_id_on_two_topics(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let second = made_topic(harness, &scene.transport, 1).await?;
    let envelope = event("twice", 1)?;
    let batch = [&scene.topic, &second].map(|topic| Outgoing::new(topic.clone(), envelope.clone()));
    for outcome in scene.outcomes(batch.into()).await? {
        check!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
    }
    for topic in [&scene.topic, &second] {
        let records = read_all(harness, &scene.transport, topic).await?;
        check_eq!(records.len(), 1, "records of {topic}");
        check!(records[0].1.envelope == envelope, "another event came back");
    }
    Ok(())
}

/// After a flush every receipt is resolved, and nothing is left without outcome.
async fn flush_leaves_nothing_behind(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 3).await?;
    let publisher = scene
        .transport
        .publisher(PublisherOptions::default())
        .await?;
    let mut receipts = Vec::new();
    for number in 0..100 {
        let outgoing = Outgoing::new(scene.topic.clone(), event("flush", number)?);
        receipts.push(publisher.enqueue(vec![outgoing]).await?);
    }
    let left = harness
        .within("a flush", publisher.flush(harness.deadline()))
        .await??;
    check!(left.is_empty(), "{} events have no outcome", left.len());
    let outcomes = harness
        .within("receipts", futures_util::future::join_all(receipts))
        .await?;
    check!(
        outcomes.iter().flatten().all(Outcome::is_ok),
        "{outcomes:?}"
    );
    check_eq!(scene.records().await?.len(), 100, "records");
    Ok(())
}

/// A publisher counts what became of its events.
async fn publisher_counts(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let publisher = scene
        .transport
        .publisher(PublisherOptions::default())
        .await?;
    let large = event("count", 1)?.with_payload(Some(noise(limits::MAX_PAYLOAD + 1)));
    let late = event("count", 2)?;
    check!(
        late.time().is_none_or(|time| time <= Timestamp::now()),
        "an event of the future"
    );
    let batch = [event("count", 0)?, large, late];
    let batch = batch.map(|envelope| Outgoing::new(scene.topic.clone(), envelope));
    let _ = harness
        .within("outcomes", publisher.enqueue(batch.into()).await?)
        .await?;
    let stats = publisher.stats();
    check_eq!(
        (stats.stored, stats.rejected, stats.unknown),
        (2, 1, 0),
        "stored, rejected, unknown"
    );
    check_eq!(stats.in_flight, 0, "without outcome");
    Ok(())
}
