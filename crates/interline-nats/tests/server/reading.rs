//! Readings that lose nothing, or say so.

use std::time::Duration;

use interline_core::{
    Admin as _, Budget, Committed, ErrorKind, Feed as _, Pattern, Result, Signal, Start, State,
    SubscribeSpec, Transport as _,
};
use interline_core::{AnyPublisher, Topic};
use serde_json::{Value, json};

use crate::proxy::Proxy;
use crate::publishing::check_complete;
use crate::raw::{ask, client, consumers, rows};
use crate::support::{
    Member, PATIENCE, connect, connect_to, event, group, make, numbered, publish, publisher, topic,
    within,
};

/// Everything that a member has read is complete.
fn check(member: &Member, count: usize) {
    assert_eq!(member.read.len(), count, "records, with copies");
    check_complete(&member.read, count);
}

/// Reads until the feed ends.
async fn end_of(member: &mut Member) -> interline_core::Error {
    let reading = async {
        loop {
            match member.feed.next(Budget::default()).await {
                Ok(Signal::Assigned(checkpoints)) => member.assigned(checkpoints),
                Ok(Signal::Batch(batch)) => member.take(&batch),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    };
    within(reading).await
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_lose_and_double_nothing() {
    let direct = connect().await;
    let (topic, group) = (topic("cut"), group("cut"));
    make(&direct, &topic, 3).await;
    let publisher = publisher(&direct).await;
    publish(&publisher, &topic, numbered(0, 20_000, 40)).await;
    let proxy = Proxy::start().await;
    let transport = connect_to(&proxy.url()).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    for count in (1_000..20_000).step_by(1_000) {
        member.read_to(count).await;
        proxy.cut();
    }
    member.read_to(20_000).await;
    publish(&publisher, &topic, numbered(20_000, 20_100, 40)).await;
    member.read_to(20_100).await;
    check(&member, 20_100);
    member.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_consumer_is_made_anew() {
    let (transport, client) = (connect().await, client().await);
    let (topic, group) = (topic("consumer"), group("consumer"));
    make(&transport, &topic, 2).await;
    let publisher = publisher(&transport).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    for round in 0..5 {
        publish(
            &publisher,
            &topic,
            numbered(round * 500, round * 500 + 500, 9),
        )
        .await;
        member.read_to(round * 500 + 250).await;
        for name in consumers(&client, topic.as_str()).await {
            let what = format!("CONSUMER.DELETE.{topic}.{name}");
            ask(&client, &what, &Value::Null).await;
        }
        member.read_to(round * 500 + 500).await;
    }
    check(&member, 2_500);
    member.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_is_reported() {
    let (transport, client) = (connect().await, client().await);
    let (topic, group) = (topic("stream"), group("stream"));
    make(&transport, &topic, 2).await;
    publish(&publisher(&transport).await, &topic, numbered(0, 100, 9)).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(100).await;
    ask(&client, &format!("STREAM.DELETE.{topic}"), &Value::Null).await;
    let error = end_of(&mut member).await;
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_made_anew_is_not_taken_for_the_old_one() {
    let (transport, client) = (connect().await, client().await);
    let (topic, group) = (topic("anew"), group("anew"));
    make(&transport, &topic, 1).await;
    publish(&publisher(&transport).await, &topic, numbered(0, 10, 9)).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(10).await;
    member.drain().await;
    let stream = ask(&client, &format!("STREAM.INFO.{topic}"), &Value::Null).await;
    ask(&client, &format!("STREAM.DELETE.{topic}"), &Value::Null).await;
    ask(
        &client,
        &format!("STREAM.CREATE.{topic}"),
        &stream["config"],
    )
    .await;
    let other = connect().await;
    publish(&publisher(&other).await, &topic, numbered(0, 20, 9)).await;
    let spec = SubscribeSpec::new(group.clone(), vec![Pattern::exact(topic.as_str())]);
    let refused = within(other.subscribe(spec.clone())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PositionLost, "{refused}");
    within(other.admin().reset(&group, &topic, Start::Earliest))
        .await
        .unwrap();
    let (feed, control) = within(other.subscribe(spec)).await.unwrap();
    let mut member = Member::of(feed, control);
    member.read_to(20).await;
    check(&member, 20);
    member.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_unread_is_missed() {
    let (transport, client) = (connect().await, client().await);
    let (topic, group) = (topic("purged"), group("purged"));
    make(&transport, &topic, 1).await;
    let publisher = publisher(&transport).await;
    publish(&publisher, &topic, numbered(0, 10, 9)).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(10).await;
    member.drain().await;
    publish(&publisher, &topic, numbered(10, 20, 9)).await;
    ask(
        &client,
        &format!("STREAM.PURGE.{topic}"),
        &json!({ "seq": 15 }),
    )
    .await;
    let mut member = Member::join(&transport, &topic, &group).await;
    let error = end_of(&mut member).await;
    assert_eq!(error.kind(), ErrorKind::PositionLost, "{error}");
}

/// Old events of other partitions are gone: a partition that has had none since misses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_partition_misses_nothing() {
    let (transport, client) = (connect().await, client().await);
    let (topic, group) = (topic("quiet"), group("quiet"));
    make(&transport, &topic, 2).await;
    let publisher = publisher(&transport).await;
    // One event in one partition, then many in the other.
    let (busy, quiet) = keys_of_both(&publisher, &topic).await;
    publish(&publisher, &topic, vec![event(Some(&quiet), "2")]).await;
    let many = (3..50).map(|n| event(Some(&busy), &n.to_string()));
    publish(&publisher, &topic, many.collect()).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(50).await;
    member.drain().await;
    // A member that finds nothing keeps in mind up to where.
    let mut member = Member::join(&transport, &topic, &group).await;
    let seen = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            let _ = tokio::time::timeout(Duration::from_millis(1), member.step()).await;
            let rows = rows(&client, &topic, &group, 2).await;
            if member.owned.len() == 2 && rows.iter().all(|row| row["seen"] == json!(50)) {
                return;
            }
            ticks.tick().await;
        }
    };
    within(seen).await;
    member.drain().await;
    let purge = format!("STREAM.PURGE.{topic}");
    ask(&client, &purge, &json!({ "seq": 51 })).await;
    publish(&publisher, &topic, vec![event(Some(&quiet), "50")]).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(1).await;
    member.drain().await;
}

/// A key of each of two partitions; an event of each is published.
async fn keys_of_both(publisher: &AnyPublisher, topic: &Topic) -> (String, String) {
    let mut keys = [None, None];
    let mut number = 0;
    while keys.iter().any(Option::is_none) {
        let key = format!("key-{number}");
        let at = interline_transport::partition::for_key(key.as_bytes(), 2) as usize;
        if keys[at].is_none() {
            publish(publisher, topic, vec![event(Some(&key), &at.to_string())]).await;
            keys[at] = Some(key);
        }
        number += 1;
    }
    let [first, second] = keys.map(Option::unwrap);
    (first, second)
}

/// A connection on which nothing comes any more, not even an end, is given up by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_given_up() {
    let direct = connect().await;
    let (topic, group) = (topic("silent"), group("silent"));
    make(&direct, &topic, 1).await;
    let publisher = publisher(&direct).await;
    let proxy = Proxy::start().await;
    let transport = connect_to(&proxy.url()).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    publish(&publisher, &topic, numbered(0, 10, 9)).await;
    member.read_to(10).await;
    assert_eq!(member.commit().await, [Committed::Applied]);
    proxy.silence();
    publish(&publisher, &topic, numbered(10, 20, 9)).await;
    let noticed = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while transport.state() == State::Connected {
            ticks.tick().await;
        }
    };
    within(noticed).await;
    proxy.open();
    member.read_to(20).await;
    check(&member, 20);
    within(transport.close(PATIENCE)).await.unwrap();
}

/// Headers that this client's library cannot read break its connection; they are read all the
/// same, and so is what comes behind them.
#[tokio::test(flavor = "multi_thread")]
async fn unreadable_headers_stop_nothing() -> Result<()> {
    let transport = connect().await;
    let (topic, group) = (topic("odd"), group("odd"));
    make(&transport, &topic, 1).await;
    let publisher = publisher(&transport).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    for round in 0..3 {
        publish(&publisher, &topic, numbered(round * 12, round * 12 + 10, 9)).await;
        for (number, block) in [
            (10, "NATS/1.0\r\nbad name: 1\r\n\r\n"),
            (11, "nonsense\r\n\r\n"),
        ] {
            let number = (round * 12 + number).to_string();
            crate::raw::publish_block(&format!("{topic}.0"), block, &number).await;
        }
    }
    member.read_to(36).await;
    let mut numbers: Vec<usize> = member.read.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..36).collect::<Vec<_>>());
    member.drain().await;
    Ok(())
}
