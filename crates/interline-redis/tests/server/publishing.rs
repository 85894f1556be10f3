//! What is stored, and how it looks at the server.

use std::collections::BTreeSet;

use fred::types::Value;
use interline_core::{
    Envelope, EventId, Kind, Outcome, Outgoing, Position, Publisher, Transport as _,
};

use super::support::{
    Raw, batch, connect, connect_to, content, event, make, outcomes, publisher, stream, topic,
    url_with, within,
};

#[tokio::test(flavor = "multi_thread")]
async fn ids_count_the_events_of_a_partition() {
    let transport = connect().await;
    let topic = topic("dense");
    make(&transport, &topic, 3).await;
    let publisher = publisher(&transport).await;
    let mut counts: [BTreeSet<u64>; 3] = Default::default();
    let mut last = [Position::default(); 3];
    for start in (0..3_000).step_by(300) {
        for outcome in outcomes(&publisher, batch(&topic, start..start + 300)).await {
            let Outcome::Stored {
                partition,
                position,
                ..
            } = outcome
            else {
                panic!("{outcome:?}");
            };
            let partition = partition as usize;
            assert!(last[partition] < position);
            last[partition] = position;
            counts[partition].insert(position.1);
        }
    }
    for counts in counts {
        let count = counts.len() as u64;
        assert_eq!((counts.first(), counts.last()), (Some(&1), Some(&count)));
    }
    assert_eq!(content(&transport, &topic).await.unwrap().len(), 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_readable_in_the_servers_own_shell() {
    let transport = connect().await;
    let topic = topic("readable");
    make(&transport, &topic, 1).await;
    let kind = Kind::new("/shop", "order.placed").unwrap();
    let envelope = Envelope::builder(kind.content_type("application/json"))
        .id(EventId::parse("order-1").unwrap())
        .key("ada")
        .payload(r#"{"cents":990}"#)
        .build()
        .unwrap();
    let publisher = publisher(&transport).await;
    outcomes(&publisher, vec![Outgoing::new(topic.clone(), envelope)]).await;
    let raw = Raw::connect().await;
    let entries = raw
        .run("XRANGE", &format!("{} - +", stream(&topic, 0)))
        .await;
    let entry = entries.into_array()[0].clone().into_array();
    let fields: Vec<_> = entry[1].clone().into_array();
    let fields: Vec<_> = fields.iter().filter_map(Value::as_string).collect();
    let attributes = "ce_specversion=1.0&ce_source=/shop&ce_type=order.placed\
                      &content-type=application/json&ce_id=order-1&ce_partitionkey=ada";
    assert_eq!(fields, ["ce", attributes, "data", r#"{"cents":990}"#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn single_publishes_share_requests() {
    let transport = connect().await;
    let topic = topic("single");
    make(&transport, &topic, 4).await;
    let publisher = publisher(&transport).await;
    let before = publish_calls().await;
    let all = (0..2_000).map(|number| {
        let one = vec![Outgoing::new(topic.clone(), event(number, 50))];
        async { within(publisher.enqueue(one)).await.unwrap().await }
    });
    let all = within(futures_util::future::join_all(all)).await;
    assert!(all.iter().flatten().all(Outcome::is_ok));
    let calls = publish_calls().await - before;
    assert!(calls < 1_000, "{calls} requests for 2,000 events");
    assert_eq!(content(&transport, &topic).await.unwrap().len(), 2_000);
}

/// How many scripts the server has run.
async fn publish_calls() -> u64 {
    let raw = Raw::connect().await;
    let stats = raw.run("INFO", "commandstats").await.as_string().unwrap();
    let line = stats
        .lines()
        .find(|line| line.starts_with("cmdstat_evalsha:"));
    let calls = line.and_then(|line| line.split("calls=").nth(1));
    let calls = calls.and_then(|rest| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_within_the_window_is_recognised() {
    let transport = connect_to(&url_with("dedupe_window=1h")).await;
    let topic = topic("window");
    make(&transport, &topic, 4).await;
    let first = publisher(&transport).await;
    let events = batch(&topic, 0..100);
    let mut places = Vec::new();
    for outcome in outcomes(&first, events.clone()).await {
        match outcome {
            Outcome::Stored { position, .. } => places.push(Some(position)),
            other => panic!("{other:?}"),
        }
    }
    // Another publisher, as after a restart of the process; a copy within one batch, too.
    let second = publisher(&transport).await;
    let twice: Vec<_> = events.iter().chain(&events).cloned().collect();
    for (outcome, place) in outcomes(&second, twice)
        .await
        .iter()
        .zip(places.iter().cycle())
    {
        match outcome {
            Outcome::Duplicate { position } => assert_eq!(position, place),
            other => panic!("{other:?}"),
        }
    }
    let fresh = vec![batch(&topic, 100..101)[0].clone(); 2];
    let fresh = outcomes(&second, fresh).await;
    assert!(matches!(fresh[0], Outcome::Stored { .. }), "{fresh:?}");
    assert!(matches!(fresh[1], Outcome::Duplicate { .. }), "{fresh:?}");
    assert_eq!(content(&transport, &topic).await.unwrap().len(), 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_window_a_copy_is_stored() {
    let transport = connect().await;
    let topic = topic("copies");
    make(&transport, &topic, 1).await;
    let publisher = publisher(&transport).await;
    let one = batch(&topic, 0..1);
    outcomes(&publisher, one.clone()).await;
    outcomes(&publisher, one).await;
    assert_eq!(content(&transport, &topic).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_made_in_development_and_refused_in_production() {
    let topic = topic("missing");
    let production = connect_to(&url_with("profile=production")).await;
    let refused = publisher(&production).await;
    match outcomes(&refused, batch(&topic, 0..1)).await.pop() {
        Some(Outcome::Rejected(error)) => {
            assert_eq!(error.kind(), interline_core::ErrorKind::NotFound);
            assert!(
                error.to_string().contains("interline topics create"),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    }
    let development = connect().await;
    let made = publisher(&development).await;
    assert!(outcomes(&made, batch(&topic, 0..1)).await[0].is_ok());
    // The refusal is not remembered.
    assert!(outcomes(&refused, batch(&topic, 1..2)).await[0].is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_something_else_refuses_its_events_alone() {
    let transport = connect().await;
    let topic = topic("wrong");
    make(&transport, &topic, 20).await;
    let raw = Raw::connect().await;
    let spoiled = stream(&topic, 7);
    raw.run("SET", &format!("{spoiled} x")).await;
    let publisher = publisher(&transport).await;
    let all = outcomes(&publisher, batch(&topic, 0..200)).await;
    let refused = all.iter().filter(|outcome| !outcome.is_ok()).count();
    assert!(refused > 0 && refused < 100, "{refused}");
    for outcome in &all {
        if let Outcome::Rejected(error) = outcome {
            assert!(error.message().contains("WRONGTYPE"), "{error}");
        }
    }
    raw.run("DEL", &spoiled).await;
    assert_eq!(
        content(&transport, &topic).await.unwrap().len(),
        200 - refused
    );
    assert!(
        outcomes(&publisher, batch(&topic, 200..400))
            .await
            .iter()
            .all(Outcome::is_ok)
    );
    drop(transport.close(std::time::Duration::from_secs(5)).await);
}
