//! Batches that the server stores as a whole: what is published where it writes to disk before it
//! answers. That it does so is only declared here, so that any server will do.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use interline_core::{
    AnyTransport, Budget, Durability, Outcome, Outgoing, Pattern, Position, Publisher as _,
    ReadSpec, Reader as _, Start, Topic, Transport as _, Until,
};
use serde_json::json;

use crate::publishing::{batch, check_complete, content};
use crate::raw::{ask, client};
use crate::support::{connect_to, make, publish, publisher, topic, url_with, within};

async fn synced() -> AnyTransport {
    connect_to(&url_with("sync_always=on")).await
}

/// What a stored message says of its batch.
async fn batch_of(client: &async_nats::Client, topic: &Topic, sequence: u64) -> String {
    let what = format!("STREAM.MSG.GET.{topic}");
    let answer = ask(client, &what, &json!({ "seq": sequence })).await;
    let block = STANDARD.decode(answer["message"]["hdrs"].as_str().unwrap());
    let block = String::from_utf8(block.unwrap()).unwrap();
    let id = block.lines().find_map(|l| l.strip_prefix("Nats-Batch-Id:"));
    id.unwrap_or_default().trim().to_owned()
}

/// Whether any event in a topic has headers.
async fn has_headers(transport: &AnyTransport, topic: &Topic) -> bool {
    let spec = ReadSpec {
        topics: vec![Pattern::exact(topic.as_str())],
        start: Start::Earliest,
        until: Until::End,
    };
    let mut reader = within(transport.read(spec)).await.unwrap();
    while let Some(batch) = within(reader.next(Budget::default())).await.unwrap() {
        if batch
            .records
            .iter()
            .any(|r| !r.envelope.headers().is_empty())
        {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_stored_as_a_whole() {
    let (transport, client, topic) = (synced().await, client().await, topic("whole"));
    make(&transport, &topic, 3).await;
    let publisher = publisher(&transport).await;
    let receipt = within(publisher.enqueue(batch(&topic, 0, 1_500))).await;
    let outcomes = within(receipt.unwrap()).await;
    for (number, outcome) in (1..).zip(outcomes) {
        match outcome {
            Outcome::Stored {
                position,
                durability,
                ..
            } => assert_eq!(
                (position, durability),
                (Position::from(number), Durability::Disk)
            ),
            other => panic!("{number}: {other:?}"),
        }
    }
    let mut ids = BTreeSet::new();
    for sequence in [1, 1_000, 1_001, 1_500] {
        ids.insert(batch_of(&client, &topic, sequence).await);
    }
    assert!(ids.len() == 2 && !ids.contains(""), "{ids:?}");
    check_complete(&content(&transport, &topic).await, 1_500);
    assert!(!has_headers(&transport, &topic).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_in_a_batch_is_told_from_the_rest() {
    let (transport, topic) = (synced().await, topic("copy"));
    make(&transport, &topic, 3).await;
    let publisher = publisher(&transport).await;
    let events = batch(&topic, 0, 20);
    let first = vec![events[7].envelope.clone()];
    assert_eq!(publish(&publisher, &topic, first).await[0].1, 1);
    let again = |e: &Outgoing| Outgoing::new(topic.clone(), e.envelope.clone());
    let send = async || {
        let events = events.iter().map(again).collect();
        within(within(publisher.enqueue(events)).await.unwrap()).await
    };
    for (number, outcome) in send().await.into_iter().enumerate() {
        match outcome {
            Outcome::Stored { .. } => assert_ne!(number, 7),
            Outcome::Duplicate { position } => {
                assert_eq!((number, position), (7, Some(Position::from(1))));
            }
            other => panic!("{number}: {other:?}"),
        }
    }
    let is_copy = |outcome: &Outcome| matches!(outcome, Outcome::Duplicate { .. });
    assert!(send().await.iter().all(is_copy));
    assert_eq!(content(&transport, &topic).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_wait_share_batches() {
    let (transport, client, topic) = (synced().await, client().await, topic("callers"));
    make(&transport, &topic, 3).await;
    let publisher = publisher(&transport).await;
    let one = async |number: usize| {
        let receipt = within(publisher.enqueue(batch(&topic, number, number + 1))).await;
        within(receipt.unwrap()).await.remove(0)
    };
    let outcomes = futures_util::future::join_all((0..100).map(one)).await;
    assert!(outcomes.iter().all(Outcome::is_ok), "{outcomes:?}");
    let last = batch_of(&client, &topic, 100).await;
    assert!(!last.is_empty(), "the last ones waited for the first");
    // Who enqueues first is not said.
    assert_eq!(content(&transport, &topic).await.len(), 100);
}
