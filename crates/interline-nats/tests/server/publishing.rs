//! What becomes of events.

use std::collections::BTreeMap;

use interline_core::{
    Admin as _, AnyTransport, Budget, Durability, Outcome, Outgoing, Pattern, Publisher as _,
    PublisherOptions, ReadSpec, Reader as _, Start, Topic, Transport as _, Until,
};
use serde_json::json;

use crate::proxy::Proxy;
use crate::raw::{ask, client, update};
use crate::support::{
    connect, connect_to, event, make, numbered, publisher, topic, url_with, within,
};

/// Key and number of every record, in order within each partition.
pub(crate) async fn content(transport: &AnyTransport, topic: &Topic) -> Vec<(String, usize)> {
    let spec = ReadSpec {
        topics: vec![Pattern::exact(topic.as_str())],
        start: Start::Earliest,
        until: Until::End,
    };
    let mut reader = within(transport.read(spec)).await.unwrap();
    let mut found = Vec::new();
    while let Some(batch) = within(reader.next(Budget::default())).await.unwrap() {
        for record in batch.records {
            let text = |bytes: Option<&[u8]>| {
                String::from_utf8(bytes.map(|bytes| bytes.to_vec()).unwrap_or_default()).unwrap()
            };
            let number = text(record.envelope.payload().map(|data| &**data))
                .parse()
                .unwrap();
            found.push((text(record.envelope.key().map(|key| &**key)), number));
        }
    }
    found
}

/// Checks that every number up to `count` is there once, and those of each key in order.
pub(crate) fn check_complete(found: &[(String, usize)], count: usize) {
    let mut numbers: Vec<usize> = found.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..count).collect::<Vec<_>>());
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for (key, number) in found {
        if let Some(before) = last.insert(key, *number) {
            assert!(before < *number, "{number} of {key} comes behind {before}");
        }
    }
}

pub(crate) fn batch(topic: &Topic, from: usize, to: usize) -> Vec<Outgoing> {
    numbered(from, to, 40)
        .into_iter()
        .map(|envelope| Outgoing::new(topic.clone(), envelope))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_refuses_and_keeps_what_it_has() {
    // One by one, and in a batch that is stored as a whole or not at all.
    fill("sync_always=off").await;
    fill("sync_always=on").await;
}

async fn fill(settings: &str) {
    let (transport, topic) = (connect_to(&url_with(settings)).await, topic("full"));
    make(&transport, &topic, 1).await;
    update(&client().await, topic.as_str(), &[("max_msgs", json!(5))]).await;
    let publisher = publisher(&transport).await;
    let receipt = within(publisher.enqueue(batch(&topic, 0, 10)))
        .await
        .unwrap();
    let outcomes = within(receipt).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Outcome::Stored { .. } => assert!(number < 5, "{number} is stored"),
            Outcome::Rejected(error) => {
                assert!(number >= 5, "{number}: {error}");
                assert!(error.to_string().contains("make room"), "{error}");
            }
            other => panic!("{number}: {other:?}"),
        }
    }
    check_complete(&content(&transport, &topic).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_lose_double_and_reorder_nothing() {
    publish_through_cuts("sync_always=off").await;
    publish_through_cuts("sync_always=on").await;
}

async fn publish_through_cuts(settings: &str) {
    let proxy = Proxy::start().await;
    let url = format!("{}?{settings}", proxy.url());
    let (transport, topic) = (connect_to(&url).await, topic("cut"));
    make(&transport, &topic, 3).await;
    let publisher = publisher(&transport).await;
    let mut receipts = Vec::new();
    for start in (0..20_000).step_by(200) {
        let events = batch(&topic, start, start + 200);
        receipts.push(within(publisher.enqueue(events)).await.unwrap());
        if start % 800 == 0 {
            proxy.cut();
        }
        if start % 2_000 == 0 {
            // Some events of each stretch are stored before the next cut.
            within(receipts.pop().unwrap()).await;
        }
    }
    for receipt in receipts {
        for outcome in within(receipt).await {
            assert!(outcome.is_ok(), "{outcome:?}");
        }
    }
    check_complete(&content(&transport, &topic).await, 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_takes_no_events() {
    let (transport, topic) = (connect().await, topic("gone"));
    make(&transport, &topic, 1).await;
    let publisher = publisher(&transport).await;
    let send = async |from: usize| {
        let events = batch(&topic, from, from + 1);
        let outcomes = within(publisher.enqueue(events)).await.unwrap();
        within(outcomes).await.pop().unwrap()
    };
    assert!(send(0).await.is_ok());
    ask(
        &client().await,
        &format!("STREAM.DELETE.{topic}"),
        &json!(null),
    )
    .await;
    match send(1).await {
        Outcome::Rejected(error) => {
            assert_eq!(error.kind(), interline_core::ErrorKind::NotFound, "{error}");
        }
        other => panic!("{other:?}"),
    }
    // It is made anew for the next event, as for any topic that is missing.
    assert!(send(2).await.is_ok());
    assert_eq!(content(&transport, &topic).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn durability_is_what_the_stream_gives() {
    let (transport, topic) = (connect().await, topic("memory"));
    assert_eq!(transport.capabilities().durability, Durability::Process);
    let config = json!({
        "name": topic.as_str(),
        "subjects": [format!("{topic}.0")],
        "storage": "memory",
        "num_replicas": 1,
        "metadata": { "interline.partitions": "1" },
    });
    ask(&client().await, &format!("STREAM.CREATE.{topic}"), &config).await;
    let send = async |options: PublisherOptions| {
        let publisher = transport.publisher(options).await.unwrap();
        let events = vec![Outgoing::new(topic.clone(), event(None, "1"))];
        let receipt = within(publisher.enqueue(events)).await.unwrap();
        within(receipt).await.pop().unwrap()
    };
    match send(PublisherOptions::default()).await {
        Outcome::Stored { durability, .. } => assert_eq!(durability, Durability::Memory),
        other => panic!("{other:?}"),
    }
    let strict = PublisherOptions {
        min_durability: Some(Durability::Process),
        ..PublisherOptions::default()
    };
    match send(strict).await {
        Outcome::Rejected(error) => assert!(error.to_string().contains("D0"), "{error}"),
        other => panic!("{other:?}"),
    }
    let refused = interline_nats::connect(url_with("min_durability=D2")).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("sync_always=on"), "{refused}");
    let declared = connect_to(&url_with("min_durability=D2&sync_always=on")).await;
    let declared = declared.capabilities();
    assert_eq!(declared.durability, Durability::Disk);
    assert!(!declared.durability_verified, "nobody has asked the server");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_others_is_a_topic_with_one_partition() {
    let (transport, client) = (connect().await, client().await);
    let (wide, narrow) = (topic("wide"), topic("narrow"));
    for (stream, subjects) in [
        (&wide, vec![format!("{wide}.in.>")]),
        (&narrow, vec![format!("{narrow}.in")]),
    ] {
        let config = json!({ "name": stream.as_str(), "subjects": subjects, "num_replicas": 1 });
        ask(&client, &format!("STREAM.CREATE.{stream}"), &config).await;
    }
    for (subject, text) in [("in.a", "0"), ("in.b.c", "1")] {
        let subject = format!("{wide}.{subject}");
        within(client.request(subject, text.into())).await.unwrap();
    }
    let found = content(&transport, &wide).await;
    assert_eq!(found, [(String::new(), 0), (String::new(), 1)]);
    let publisher = publisher(&transport).await;
    let send = async |topic: &Topic| {
        let receipt = within(publisher.enqueue(batch(topic, 0, 1))).await.unwrap();
        within(receipt).await.pop().unwrap()
    };
    match send(&wide).await {
        Outcome::Rejected(error) => assert!(error.to_string().contains("no subject"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(send(&narrow).await.is_ok());
    check_complete(&content(&transport, &narrow).await, 1);
    // Nobody asked for them, so patterns do not find them.
    let all = transport.admin().topics(&Pattern::ANY).await.unwrap();
    assert!(
        all.iter()
            .all(|info| info.topic != wide && info.topic != narrow)
    );
}
