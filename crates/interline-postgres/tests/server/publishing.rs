//! What a publisher does when things go wrong.

use std::time::Duration;

use interline_core::{
    Dedupe, ErrorKind, Outcome, Publisher as _, PublisherOptions, Transport as _,
};
use interline_postgres::native::keep_house;

use crate::proxy::{Answers, Proxy};
use crate::support::{
    bare, connect, connect_with, content, event, eventually, fresh, make, number, numbers,
    outgoing, publish, publisher, topic, within,
};

/// Large enough for the proxy to take it for one that stores.
fn large(key: &str, number: usize) -> interline_core::Envelope {
    let mut envelope = event(key, number);
    let padding = vec![b'x'; 5_000];
    let name = interline_core::HeaderName::new("x-padding").unwrap();
    envelope.headers_mut().push(name, padding);
    envelope
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_sent_again_and_stored_once() {
    let mut proxy = Proxy::start().await;
    let direct = connect().await;
    let topic = topic("lost");
    make(&direct, &topic, 3).await;
    let transport = proxy.connect().await;
    let publisher = publisher(&transport).await;
    for round in 1..=3 {
        proxy.answers.send_replace(Answers::LostOnce);
        let batch = (0..20).map(|n| large(&format!("key-{}", n % 5), round * 100 + n));
        let outcomes = publish(&publisher, &topic, batch.collect()).await;
        proxy.cut(round).await;
        // The first try was stored, so that the second one finds copies.
        assert!(
            outcomes
                .iter()
                .all(|o| matches!(o, Outcome::Duplicate { .. })),
            "{outcomes:?}"
        );
    }
    let all: Vec<usize> = (1..=3)
        .flat_map(|r| (0..20).map(move |n| r * 100 + n))
        .collect();
    assert_eq!(numbers(&direct, &topic).await, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_comes_is_unknown() {
    let mut proxy = Proxy::start().await;
    let direct = connect().await;
    let topic = topic("unknown");
    make(&direct, &topic, 1).await;
    let transport = proxy.connect().await;
    let options = PublisherOptions {
        publish_timeout: Duration::from_secs(5),
        ..PublisherOptions::default()
    };
    let publisher = transport.publisher(options).await.unwrap();
    proxy.answers.send_replace(Answers::Lost);
    let outcomes = publish(&publisher, &topic, vec![large("a", 1)]).await;
    proxy.cut(1).await;
    match &outcomes[..] {
        [Outcome::Unknown(error)] => assert!(error.is_ambiguous(), "{error}"),
        other => panic!("{other:?}"),
    }
    proxy.answers.send_replace(Answers::Pass);
    assert_eq!(numbers(&direct, &topic).await, [1], "it was stored, once");
    // The publisher recovers by itself.
    assert!(publish(&publisher, &topic, vec![large("a", 2)]).await[0].is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_is_not_let_in_says_why_at_once() {
    let namespace = fresh("closed");
    let transport = connect_with(&format!("namespace={namespace}&maintain=off")).await;
    let topic = topic("closed");
    make(&transport, &topic, 1).await;
    let publisher = publisher(&transport).await;
    let drop = format!("drop schema \"interline_{namespace}\" cascade");
    bare().await.batch_execute(&drop).await.unwrap();
    let outcome = publish(&publisher, &topic, vec![event("a", 1)]).await;
    match &outcome[..] {
        // After the publish timeout it would be that it took too long.
        [Outcome::Rejected(error)] => assert_eq!(error.kind(), ErrorKind::Config, "{error}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_among_new_events_are_told_and_overtaken_by_nothing() {
    let transport = connect_with("partitions=1").await;
    let topic = topic("copies");
    make(&transport, &topic, 1).await;
    let publisher = publisher(&transport).await;
    let events: Vec<_> = (0..2_000).map(|number| event("a", number)).collect();
    let mut sent = Vec::new();
    // Batches with copies and such without, many on their way at a time.
    for (number, batch) in events.chunks(20).enumerate() {
        let copies = match number % 4 {
            3 => (number - 2) * 20..(number - 1) * 20 + 5,
            _ => 0..0,
        };
        let batch = [&events[copies.clone()], batch].concat();
        let receipt = publisher.enqueue(outgoing(&topic, batch)).await.unwrap();
        sent.push((copies.len(), receipt));
    }
    let mut last = None;
    for (copies, receipt) in sent {
        for (at, outcome) in within(receipt).await.into_iter().enumerate() {
            match outcome {
                Outcome::Duplicate { .. } => assert!(at < copies, "{at} of {copies}"),
                Outcome::Stored { position, .. } => {
                    assert!(at >= copies && last < Some(position), "{at} of {copies}");
                    last = Some(position);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(
        numbers(&transport, &topic).await,
        (0..2_000).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_failed_batch_does_not_overtake_it() {
    let transport = connect_with("partitions=1").await;
    let topic = topic("order");
    make(&transport, &topic, 1).await;
    let publisher = publisher(&transport).await;
    assert!(publish(&publisher, &topic, vec![event("a", 0)]).await[0].is_ok());
    // A copy of the first event that is not decided: whoever stores it has to wait.
    let mut other = bare().await;
    let holding = other.transaction().await.unwrap();
    let (first, second) = (event("a", 1), event("a", 2));
    let copy = first.id().as_uuid().unwrap();
    let hold = "insert into interline.copies_new
        select id, $2 from interline.topics where name = $1";
    holding
        .execute(hold, &[&topic.as_str(), &copy])
        .await
        .unwrap();
    let one = within(publisher.enqueue(outgoing(&topic, vec![first])))
        .await
        .unwrap();
    let blocked = "select pid from pg_stat_activity where application_name = 'interline publish'
        and wait_event_type = 'Lock' and query like '%copies_new%'
        and pid in (select pid from pg_locks where not granted)";
    let looking = bare().await;
    let mut pid = None;
    while pid.is_none() {
        let row = looking.query_opt(blocked, &[]).await.unwrap();
        pid = row.map(|row| row.get::<_, i32>(0));
    }
    let two = within(publisher.enqueue(outgoing(&topic, vec![second])))
        .await
        .unwrap();
    looking
        .execute("select pg_cancel_backend($1)", &[&pid.unwrap()])
        .await
        .unwrap();
    holding.rollback().await.unwrap();
    for receipt in [one, two] {
        let outcomes = within(receipt).await;
        assert!(outcomes.iter().all(Outcome::is_ok), "{outcomes:?}");
    }
    let found = content(&transport, &topic, interline_core::Start::Earliest).await;
    let order: Vec<_> = found
        .unwrap()
        .iter()
        .map(|(_, r)| number(&r.envelope))
        .collect();
    assert_eq!(order, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_recognised_for_a_day_and_forgotten_after_two() {
    let namespace = fresh("copies");
    let transport = connect_with(&format!("namespace={namespace}")).await;
    let topic = topic("copies");
    let window = transport.capabilities().dedupe;
    assert_eq!(window, Dedupe::Window(Duration::from_secs(86_400)));
    let publisher = publisher(&transport).await;
    let envelope = event("a", 1);
    let once = async || {
        publish(&publisher, &topic, vec![envelope.clone()])
            .await
            .remove(0)
    };
    assert!(matches!(once().await, Outcome::Stored { .. }));
    let client = bare().await;
    let age = format!(
        "update \"interline_{namespace}\".meta set copies_at = copies_at - interval '25 hours'"
    );
    for kept in [true, false] {
        client.batch_execute(&age).await.unwrap();
        // Somebody else may be at it; the answer tells.
        eventually(|| async { keep_house(&transport).await.is_ok_and(|done| done.ran) }).await;
        let outcome = once().await;
        assert_eq!(
            matches!(outcome, Outcome::Duplicate { .. }),
            kept,
            "{outcome:?}"
        );
    }
    let drop = format!("drop schema \"interline_{namespace}\" cascade");
    client.batch_execute(&drop).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_gone_takes_nothing() {
    let (one, two) = (connect().await, connect().await);
    let topic = topic("gone");
    make(&one, &topic, 1).await;
    let publisher = publisher(&two).await;
    assert!(publish(&publisher, &topic, vec![event("a", 0)]).await[0].is_ok());
    let name = topic.as_str();
    let id = "select id from interline.topics where name = $1";
    let id: i32 = bare().await.query_one(id, &[&name]).await.unwrap().get(0);
    use interline_core::Admin as _;
    one.admin().delete_topic(&topic).await.unwrap();
    let outcome = publish(&publisher, &topic, vec![event("a", 1)])
        .await
        .remove(0);
    match outcome {
        // The other connection did not know of it yet.
        Outcome::Rejected(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
        // It did, and made it anew.
        Outcome::Stored { .. } => assert_eq!(numbers(&two, &topic).await, [1]),
        other => panic!("{other:?}"),
    }
    let left = "select count(*) from interline.log where topic = $1";
    let none = || async {
        let row = bare().await.query_one(left, &[&id]).await.unwrap();
        row.get::<_, i64>(0) == 0
    };
    eventually(none).await;
}
