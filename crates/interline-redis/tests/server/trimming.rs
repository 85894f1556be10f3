//! What the retention removes, and what somebody else removed.

use std::time::Duration;

use interline_core::{Admin, ErrorKind, Outcome, TopicSpec, Transport as _};

use super::support::{
    Member, Raw, batch, connect, content, group, make, outcomes, publish, publisher, stream, topic,
    within,
};

#[tokio::test(flavor = "multi_thread")]
async fn retention_keeps_what_an_active_group_has_not_settled() {
    let transport = connect().await;
    let (topic, group) = (topic("retention"), group("retention"));
    let spec = TopicSpec::new(topic.clone()).partitions(1);
    let short = spec.retention(Duration::from_millis(1_500));
    within(transport.admin().ensure(vec![short])).await.unwrap();
    publish(&transport, &topic, 0..1_000).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(1_000).await;
    // The group has settled 600 of them.
    let (_, progress) = member.owned.values_mut().next().unwrap();
    let last = progress.frontier.unwrap();
    let mut settled = last;
    settled.1 -= 400;
    progress.frontier = Some(settled);
    member.settle().await;
    let admin = transport.admin();
    // As soon as all are older than the retention, the settled ones go, in pieces.
    let mut removed = 0;
    within(async {
        while removed < 500 {
            removed += admin.trim(&topic).await.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await;
    removed += admin.trim(&topic).await.unwrap();
    assert!(removed <= 600, "{removed}");
    let left = content(&transport, &topic).await.unwrap();
    assert_eq!(left.len() as u64, 1_000 - removed);
    member.close().await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(400).await;
    assert_eq!(member.read, (600..1_000).collect::<Vec<_>>());
    member.settle().await;
    member.close().await;
    // A group that nobody is in for longer than the retention is not waited for.
    within(async {
        while admin.topics(&topic_pattern(&topic)).await.unwrap()[0].events > Some(100) {
            admin.trim(&topic).await.unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn topic_pattern(topic: &interline_core::Topic) -> interline_core::Pattern {
    interline_core::Pattern::exact(topic.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_trimming_is_told_exactly() {
    let transport = connect().await;
    let (topic, group) = (topic("trimmed"), group("trimmed"));
    make(&transport, &topic, 1).await;
    publish(&transport, &topic, 0..100).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(100).await;
    member.settle().await;
    member.close().await;
    publish(&transport, &topic, 100..200).await;
    let raw = Raw::connect().await;
    // Some that are not settled, and all of them.
    for (kept, lost) in [(37, 63), (0, 100)] {
        raw.run("XTRIM", &format!("{} MAXLEN = {kept}", stream(&topic, 0)))
            .await;
        let mut member = Member::join(&transport, &topic, &group).await;
        let end = member.end().await;
        assert_eq!(end.kind(), ErrorKind::PositionLost);
        assert!(end.message().contains(&format!("{lost} events")), "{end}");
        assert!(end.remedy_text().unwrap().contains("reset"), "{end}");
        drop(member);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trimming_what_is_settled_disturbs_nobody() {
    let transport = connect().await;
    let (topic, group) = (topic("settled"), group("settled"));
    make(&transport, &topic, 1).await;
    publish(&transport, &topic, 0..100).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(100).await;
    member.settle().await;
    let raw = Raw::connect().await;
    raw.run("XTRIM", &format!("{} MAXLEN = 0", stream(&topic, 0)))
        .await;
    member.close().await;
    let mut member = Member::join(&transport, &topic, &group).await;
    publish(&transport, &topic, 100..110).await;
    member.read_to(10).await;
    assert_eq!(member.read, (100..110).collect::<Vec<_>>());
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trimming_under_a_live_reading_is_noticed() {
    let transport = connect().await;
    let (topic, group) = (topic("live"), group("live"));
    make(&transport, &topic, 1).await;
    publish(&transport, &topic, 0..10).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(10).await;
    // While the flow is stopped, what comes is not read, and trimmed.
    let (partition, (fence, _)) = member.owned.iter().next().unwrap();
    let stopped = interline_core::Flow::Stopped;
    interline_core::Control::flow(&member.control, partition, *fence, stopped);
    let publisher = publisher(&transport).await;
    let raw = Raw::connect().await;
    let stream = stream(&topic, 0);
    let mut next = 10;
    let end = async {
        loop {
            let stored = outcomes(&publisher, batch(&topic, next..next + 10)).await;
            assert!(stored.iter().all(Outcome::is_ok));
            raw.run("XTRIM", &format!("{stream} MAXLEN = 0")).await;
            next += 10;
            if next > 1_000 {
                return std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        error = member.end() => {
            assert_eq!(error.kind(), ErrorKind::PositionLost);
            assert!(error.message().contains("events of"), "{error}");
        }
        () = end => {}
    }
}
