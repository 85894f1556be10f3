//! Members of a group.

use std::collections::BTreeSet;

use interline_core::{Admin, AnyTransport, Committed, ErrorKind, Start, Transport as _};

use super::support::{
    Member, any_publisher, batch, connect, group, lags, make, outcomes, publish, topic, within,
};

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_is_exact_while_a_backlog_drains() {
    let transport = connect().await;
    let (topic, group) = (topic("lag"), group("lag"));
    make(&transport, &topic, 3).await;
    publish(&transport, &topic, 0..5_000).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    let mut read = 0;
    while member.read.len() < 5_000 {
        member.step().await.unwrap();
        if member.read.len() > read + 500 && member.owned.len() == 3 {
            read = member.read.len();
            member.settle().await;
            let lags = lags(&transport, &topic, &group).await;
            let lag: u64 = lags.iter().filter_map(|(_, lag)| *lag).sum();
            assert_eq!(lag, 5_000 - read as u64);
        }
    }
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_and_a_former_owner_is_stale() {
    let transport = connect().await;
    let (topic, group) = (topic("share"), group("share"));
    make(&transport, &topic, 6).await;
    publish(&transport, &topic, 0..600).await;
    let mut first = Member::join(&transport, &topic, &group).await;
    first.read_to(600).await;
    let before = first.owned.clone();
    assert_eq!(before.len(), 6);
    first.settle().await;
    // The second one gets half; the first one releases what it is told to.
    let mut second = Member::join(&transport, &topic, &group).await;
    within(async {
        while second.owned.len() < 3 {
            tokio::select! {
                signal = first.step() => {
                    signal.unwrap();
                    let gone: Vec<_> = before.keys().filter(|p| !first.owned.contains_key(*p)).collect();
                    let last = gone.iter().map(|partition| interline_core::Checkpoint {
                        partition: (*partition).clone(),
                        fence: before[*partition].0,
                        progress: before[*partition].1.clone(),
                    });
                    interline_core::Control::release(&first.control, last.collect()).await.unwrap();
                }
                signal = second.step() => signal.unwrap(),
            }
        }
    })
    .await;
    first.owned = before;
    let answers = first.commit().await;
    let stale = answers.iter().filter(|answer| **answer == Committed::Stale);
    assert_eq!(stale.count(), 3, "{answers:?}");
    first.close().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_reset_and_deleted_only_without_members() {
    let transport = connect().await;
    let (topic, group) = (topic("reset"), group("reset"));
    make(&transport, &topic, 2).await;
    publish(&transport, &topic, 0..50).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(50).await;
    let admin = transport.admin();
    for refused in [
        admin.reset(&group, &topic, Start::Earliest).await,
        admin.delete_group(&group).await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    }
    member.settle().await;
    member.close().await;
    admin.reset(&group, &topic, Start::Earliest).await.unwrap();
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(50).await;
    let all: BTreeSet<usize> = member.read.iter().copied().collect();
    assert_eq!(all.len(), 50);
    member.close().await;
    admin.delete_group(&group).await.unwrap();
    assert!(admin.groups(Some(&topic)).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_deleted_topic_is_left() {
    let transport = connect().await;
    let (topic, group) = (topic("gone"), group("gone"));
    make(&transport, &topic, 4).await;
    publish(&transport, &topic, 0..50).await;
    let member = Member::join(&transport, &topic, &group).await;
    member.close().await;
    within(transport.admin().delete_topic(&topic))
        .await
        .unwrap();
    within(transport.admin().delete_topic(&topic))
        .await
        .unwrap();
    let raw = super::support::Raw::connect().await;
    let left = raw.run("KEYS", &format!("interline:{{{topic}}}*")).await;
    let left: Vec<_> = left
        .into_array()
        .iter()
        .filter_map(fred::types::Value::as_string)
        .collect();
    // The publisher's session forgets itself.
    assert!(left.iter().all(|key| key.contains(":session:")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_outlives_its_topic() {
    let transport = AnyTransport::new(connect().await);
    let topic = topic("anew");
    let publisher = any_publisher(&transport).await;
    assert!(
        outcomes(&publisher, batch(&topic, 0..5))
            .await
            .iter()
            .all(|o| o.is_ok())
    );
    within(transport.admin().delete_topic(&topic))
        .await
        .unwrap();
    // One batch learns of it at most; the next one goes to the new topic.
    within(async {
        while !outcomes(&publisher, batch(&topic, 5..6)).await[0].is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
