//! What becomes of a group when the server dies and loses the end of what it answered.

use interline_core::{
    Budget, Committed, ErrorKind, Outcome, Pattern, ReadSpec, Reader, Start, Topic, Transport as _,
    Until,
};
use interline_redis::{Transport, native};

use super::support::{
    Member, Raw, batch, connect, group, make, outcomes, publish, publisher, stream, topic, within,
};
use super::{server, turn};

/// A topic with 140 events of which the first 100 will outlive the server, and somebody who has
/// settled those and read all.
async fn read_more_than_is_kept(
    transport: &Transport,
    publisher: &native::Publisher,
    topic: &Topic,
) -> Member {
    make(transport, topic, 1).await;
    publish(transport, topic, 0..100).await;
    let mut member = Member::join(transport, topic, &group("tail")).await;
    member.read_to(100).await;
    member.settle().await;
    // What comes from here on is not in the log when the server dies.
    let raw = Raw::connect().await;
    raw.run("CONFIG", "SET appendonly no").await;
    let stored = outcomes(publisher, batch(topic, 100..140)).await;
    assert!(stored.iter().all(Outcome::is_ok));
    member.read_to(140).await;
    member
}

async fn break_down() {
    server("KILL").await;
    server("START").await;
}

/// Publishes, and reads the rest.
async fn go_on(publisher: &native::Publisher, topic: &Topic, member: &mut Member) {
    let stored = outcomes(publisher, batch(topic, 140..190)).await;
    assert!(stored.iter().all(Outcome::is_ok), "{stored:?}");
    member.read_to(190).await;
    assert_eq!(member.read, (0..190).collect::<Vec<_>>());
    member.settle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_end_was_lost_begins_at_its_checkpoint() {
    let _turn = turn().await;
    let transport = connect().await;
    let (publisher, topic) = (publisher(&transport).await, topic("tail"));
    let mut member = read_more_than_is_kept(&transport, &publisher, &topic).await;
    let fence = |member: &Member| member.owned.values().next().map(|(fence, _)| *fence);
    let before = fence(&member);
    break_down().await;
    // It is lost, and comes back with the stored checkpoint under another fence.
    while fence(&member).is_none_or(|fence| Some(fence) == before) {
        member.step().await.unwrap();
    }
    assert_eq!(
        member.owned.values().next().unwrap().1.frontier.unwrap().1,
        100
    );
    go_on(&publisher, &topic, &mut member).await;
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_lost_and_written_anew_is_read() {
    let _turn = turn().await;
    let transport = connect().await;
    let (publisher, topic) = (publisher(&transport).await, topic("anew"));
    let mut member = read_more_than_is_kept(&transport, &publisher, &topic).await;
    break_down().await;
    // More than was lost, maybe before the member has looked.
    go_on(&publisher, &topic, &mut member).await;
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_lost_events_is_not_stored() {
    let _turn = turn().await;
    let transport = connect().await;
    let (publisher, topic) = (publisher(&transport).await, topic("late-commit"));
    let mut member = read_more_than_is_kept(&transport, &publisher, &topic).await;
    break_down().await;
    // 140 were handled, and 100 of them are known to the server.
    let answers = within(async {
        loop {
            let answers = member.commit().await;
            if answers != [Committed::NotNow] {
                return answers;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(answers, [Committed::Stale]);
    go_on(&publisher, &topic, &mut member).await;
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_without_a_group_ends_where_the_end_was_lost() {
    let _turn = turn().await;
    let transport = connect().await;
    let (publisher, topic) = (publisher(&transport).await, topic("reader"));
    let member = read_more_than_is_kept(&transport, &publisher, &topic).await;
    let spec = ReadSpec {
        topics: vec![Pattern::exact(topic.as_str())],
        start: Start::Earliest,
        until: Until::Forever,
    };
    let mut reader = within(transport.read(spec)).await.unwrap();
    let mut read = 0;
    while read < 140 {
        let batch = within(reader.next(Budget::default())).await.unwrap();
        read += batch.unwrap().records.len();
    }
    break_down().await;
    let end = within(reader.next(Budget::default())).await.unwrap_err();
    assert_eq!(end.kind(), ErrorKind::PositionLost);
    assert!(end.message().contains("40 events are lost"), "{end}");
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_past_the_end_is_an_error() {
    let _turn = turn().await;
    let transport = connect().await;
    let (topic, group) = (topic("past"), group("past"));
    make(&transport, &topic, 1).await;
    publish(&transport, &topic, 0..100).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(100).await;
    member.settle().await;
    member.close().await;
    // Somebody takes the events away and leaves the checkpoint.
    let raw = Raw::connect().await;
    raw.run("DEL", &stream(&topic, 0)).await;
    raw.run("HDEL", &format!("interline:{{{topic}}} 0")).await;
    publish(&transport, &topic, 0..10).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    let end = member.end().await;
    assert_eq!(end.kind(), ErrorKind::PositionLost);
    assert!(end.message().contains("90 events are lost"), "{end}");
}
