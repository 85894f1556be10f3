//! What goes on when a connection or a client breaks, with a broker that is well.

use std::time::Duration;

use interline_core::{AnyTransport, Outcome, Outgoing, Publisher, PublisherOptions, Transport};

use tokio::time::timeout;

use crate::relay::{FETCH, PRODUCE, Relay};
use crate::support::{
    Member, connect, connect_to, content, group, make, numbered, publish, publisher, topic, url,
    within,
};

/// Less than the minute after which the client library, left to itself, gives a silent connection
/// up.
const SOON: Duration = Duration::from_secs(55);

impl Member {
    /// Reads until this many events have come, each once, without anything of the group's changing.
    async fn read_the_rest(mut self, count: usize) {
        self.read_to(count).await;
        let mut numbers: Vec<usize> = self.read.iter().map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..count).collect::<Vec<_>>());
        assert_eq!((self.revoked, self.lost), (0, 0));
        self.drain().await;
    }
}

/// Nobody tells either side that the connection is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_reading_whose_connection_falls_silent_goes_on() {
    let (relay, direct) = (Relay::start().await, connect().await);
    let (topic, group) = (topic("silent"), group("silent"));
    make(&direct, &topic, 2).await;
    let publisher = publisher(&direct).await;
    publish(&publisher, &topic, numbered(0, 100, 10)).await;
    let transport = connect_to(&relay.url()).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(100).await;

    relay.silence(FETCH);
    publish(&publisher, &topic, numbered(100, 200, 10)).await;
    let read = timeout(SOON, member.read_the_rest(200));
    read.await.expect("the silence lasted too long");
}

/// The client fetches, and nothing arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_reading_that_stalls_is_opened_anew() {
    let stalling = within(interline_kafka::connect(url())).await.unwrap();
    let transport = AnyTransport::new(stalling.clone());
    let (topic, group) = (topic("stalled"), group("stalled"));
    make(&transport, &topic, 2).await;
    let publisher = publisher(&transport).await;
    publish(&publisher, &topic, numbered(0, 100, 10)).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(100).await;

    stalling.stall_readings();
    // The answer to this comes after the stall.
    member.commit().await;
    publish(&publisher, &topic, numbered(100, 200, 10)).await;
    member.read_the_rest(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_connection_falls_silent_is_stored_once() {
    let (relay, direct) = (Relay::start().await, connect().await);
    let topic = topic("silent");
    make(&direct, &topic, 2).await;
    let transport = connect_to(&relay.url()).await;
    let options = PublisherOptions {
        publish_timeout: SOON,
        ..PublisherOptions::default()
    };
    let publisher = transport.publisher(options).await.unwrap();
    publish(&publisher, &topic, numbered(0, 100, 10)).await;

    relay.silence(PRODUCE);
    publish(&publisher, &topic, numbered(100, 200, 10)).await;
    assert_eq!(content(&direct, &topic).await, (0..200).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_error_of_the_producer_is_survived() {
    let (relay, direct) = (Relay::start().await, connect().await);
    let topic = topic("fatal");
    make(&direct, &topic, 2).await;
    let breaking = within(interline_kafka::connect(relay.url())).await.unwrap();
    let transport = AnyTransport::new(breaking.clone());
    let publisher = publisher(&transport).await;
    publish(&publisher, &topic, numbered(0, 100, 10)).await;

    // What has no answer yet never gets one.
    relay.silence(PRODUCE);
    let batch = |from, to| {
        let events = numbered(from, to, 10).into_iter();
        events.map(|envelope| Outgoing::new(topic.clone(), envelope))
    };
    let receipt = within(publisher.enqueue(batch(100, 1_100).collect())).await;
    breaking.break_producers();
    let mut outcomes = within(receipt.unwrap()).await;
    assert!(!outcomes.iter().any(Outcome::is_ok), "nothing broke");
    while !outcomes.last().is_some_and(Outcome::is_ok) {
        let next = 100 + outcomes.len();
        let receipt = within(publisher.enqueue(batch(next, next + 1).collect())).await;
        outcomes.extend(within(receipt.unwrap()).await);
    }

    let there = content(&direct, &topic).await;
    assert!(there.is_sorted_by(|a, b| a < b), "something is there twice");
    for (number, outcome) in (100..).zip(&outcomes) {
        let is_there = there.binary_search(&number).is_ok();
        match outcome {
            Outcome::Stored { .. } => assert!(is_there, "{number} is lost"),
            Outcome::Rejected(_) => assert!(!is_there, "{number} is there"),
            Outcome::Unknown(_) => {}
            Outcome::Duplicate { .. } => panic!("Kafka tells of no duplicates"),
        }
    }
}
