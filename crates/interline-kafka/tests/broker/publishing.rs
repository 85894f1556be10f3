//! Outcomes of publishing.

use std::time::Duration;

use interline_core::{
    Admin, ErrorKind, Outcome, Outgoing, Pattern, Publisher, PublisherOptions, ReadSpec, Start,
    Topic, Transport, Until,
};

use crate::support::{
    connect, connect_to, event, fresh, make, numbered, publish, publisher, read_all, topic,
    url_with, within,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_ends_where_it_should() {
    let transport = connect().await;
    let topic = topic("read");
    make(&transport, &topic, 4).await;
    let publisher = publisher(&transport).await;
    publish(&publisher, &topic, numbered(0, 5_000, 100)).await;
    let spec = |until| ReadSpec {
        topics: vec![Pattern::exact(topic.as_str())],
        start: Start::Earliest,
        until,
    };
    let reader = within(transport.read(spec(Until::End))).await.unwrap();
    publish(&publisher, &topic, numbered(5_000, 5_100, 100)).await;
    assert_eq!(read_all(reader).await, (0..5_000).collect::<Vec<_>>());
    let past = interline_core::Timestamp::from_unix_millis(1);
    let reader = within(transport.read(spec(Until::Time(past))))
        .await
        .unwrap();
    assert!(read_all(reader).await.is_empty());
    let groups = within(transport.admin().groups(Some(&topic)))
        .await
        .unwrap();
    assert!(groups.is_empty(), "{groups:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_over_a_limit_is_rejected_alone() {
    let transport = connect().await;
    let topic = topic("limit");
    make(&transport, &topic, 1).await;
    let publisher = publisher(&transport).await;
    let big = "x".repeat(transport.capabilities().max_payload + 1);
    let batch = vec![
        Outgoing::new(topic.clone(), event(None, "1")),
        Outgoing::new(topic.clone(), event(None, &big)),
        Outgoing::new(topic.clone(), event(None, "2")),
    ];
    let outcomes = within(within(publisher.enqueue(batch)).await.unwrap()).await;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    match &outcomes[1] {
        Outcome::Rejected(error) => assert_eq!(error.kind(), ErrorKind::Limit),
        other => panic!("{other:?}"),
    }
    let stats = publisher.stats();
    assert_eq!((stats.stored, stats.rejected, stats.in_flight), (2, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_made_in_development_and_refused_in_production() {
    let transport = connect().await;
    let made = topic("made");
    let publisher = publisher(&transport).await;
    publish(&publisher, &made, numbered(0, 3, 1)).await;
    let infos = within(transport.admin().topics(&Pattern::exact(made.as_str())))
        .await
        .unwrap();
    assert_eq!((infos[0].partitions, infos[0].events), (12, Some(3)));

    let strict = connect_to(&url_with("profile=production&min_durability=D1")).await;
    let publisher = crate::support::publisher(&strict).await;
    let name = fresh("absent");
    let batch = vec![Outgoing::new(Topic::new(&name).unwrap(), event(None, "1"))];
    let outcomes = within(within(publisher.enqueue(batch)).await.unwrap()).await;
    match &outcomes[0] {
        Outcome::Rejected(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains("--create --topic"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_less_durable_than_required_is_refused() {
    let transport = connect().await;
    let topic = topic("volatile");
    make(&transport, &topic, 1).await;
    let options = PublisherOptions {
        min_durability: Some(interline_core::Durability::Quorum),
        ..PublisherOptions::default()
    };
    let publisher = transport.publisher(options).await.unwrap();
    let batch = vec![Outgoing::new(topic, event(None, "1"))];
    let outcomes = within(within(publisher.enqueue(batch)).await.unwrap()).await;
    match &outcomes[0] {
        Outcome::Rejected(error) => assert_eq!(error.kind(), ErrorKind::Config, "{error}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_one_lets_everything_through() {
    let transport = connect().await;
    let topic = topic("window");
    make(&transport, &topic, 2).await;
    let options = PublisherOptions {
        window: 1,
        ..PublisherOptions::default()
    };
    let publisher = transport.publisher(options).await.unwrap();
    for n in 0..20 {
        publish(&publisher, &topic, numbered(n * 50, n * 50 + 50, 7)).await;
    }
    assert!(
        within(publisher.flush(Duration::from_secs(5)))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(publisher.stats().stored, 1_000);
}
