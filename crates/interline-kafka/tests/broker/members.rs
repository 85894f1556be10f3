//! Members of one group: sharing, passing on, being stale, holding.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use interline_core::{
    Admin, AnyTransport, Budget, Committed, Control, Feed, Flow, Signal, Topic, Transport,
};

use crate::support::{
    Member, PATIENCE, connect, connect_to, event, fresh, group, make, numbered, publish, publisher,
    topic, url_with, within,
};

/// Every number once or more, and those of one key in order of their first reading.
fn check(members: &[&Member], events: usize, keys: usize) {
    let mut seen = vec![0_u32; events];
    for member in members {
        let mut last: BTreeMap<&str, usize> = BTreeMap::new();
        for (key, number) in &member.read {
            assert_eq!(*key, format!("key-{}", number % keys));
            seen[*number] += 1;
            let before = last.insert(key, *number);
            assert!(before < Some(*number), "{key}: {before:?} before {number}");
        }
    }
    let missing: Vec<usize> = (0..events).filter(|n| seen[*n] == 0).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    let twice = seen.iter().filter(|count| **count > 1).count();
    assert_eq!(twice, 0, "released partitions are read twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_pass_on_when_members_join_and_leave() {
    let transport = connect().await;
    let (topic, group) = (topic("share"), group("share"));
    make(&transport, &topic, 6).await;
    let publisher = publisher(&transport).await;
    publish(&publisher, &topic, numbered(0, 300, 24)).await;
    let mut first = Member::join(&transport, &topic, &group).await;
    first.read_to(300).await;
    assert_eq!(first.owned.len(), 6);

    let mut second = Member::join(&transport, &topic, &group).await;
    while first.owned.len() > 3 || second.owned.len() < 3 {
        tokio::select! {
            () = first.step() => {}
            () = second.step() => {}
        }
    }
    assert_eq!((first.revoked, first.lost), (3, 0));
    let groups = within(transport.admin().groups(Some(&topic)))
        .await
        .unwrap();
    assert_eq!(groups[0].members, 2);
    assert!(groups[0].partitions.iter().all(|part| part.owner.is_some()));
    let admin = transport.admin();
    let refused = admin.reset(&group, &topic, interline_core::Start::Earliest);
    let refused = within(refused).await.unwrap_err();
    assert!(refused.to_string().contains("live members"), "{refused}");

    publish(&publisher, &topic, numbered(300, 600, 24)).await;
    while first.read.len() + second.read.len() < 600 {
        tokio::select! {
            () = first.step() => {}
            () = second.step() => {}
        }
    }
    let left: Vec<(String, usize)> = std::mem::take(&mut first.read);
    first.drain().await;
    second.own_to(6).await;
    publish(&publisher, &topic, numbered(600, 900, 24)).await;
    let rest = 900 - left.len();
    second.read_to(rest).await;
    let mut gone = Member::join(&transport, &topic, &self::group("unused")).await;
    gone.read = left;
    check(&[&gone, &second], 900, 24);
    second.drain().await;
    gone.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_owner_is_stale() {
    let transport = connect().await;
    let (topic, group) = (topic("stale"), group("stale"));
    make(&transport, &topic, 2).await;
    let publisher = publisher(&transport).await;
    publish(&publisher, &topic, numbered(0, 40, 8)).await;
    let mut first = Member::join(&transport, &topic, &group).await;
    first.read_to(40).await;
    assert_eq!(first.commit().await, [Committed::Applied; 2]);
    let mut old = first.all();
    for checkpoint in &mut old {
        checkpoint.fence -= 1;
    }
    let answer = within(first.control.commit(old)).await.unwrap();
    assert_eq!(answer, [Committed::Stale; 2]);

    let before = first.all();
    let mut second = Member::join(&transport, &topic, &group).await;
    while first.owned.len() > 1 || second.owned.is_empty() {
        tokio::select! {
            () = first.step() => {}
            () = second.step() => {}
        }
    }
    let answers = within(first.control.commit(before)).await.unwrap();
    let stale = answers.iter().filter(|a| **a == Committed::Stale).count();
    assert_eq!(stale, 1, "{answers:?}");
    first.drain().await;
    second.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_partition_comes_back_to_a_member_that_stays() {
    let transport = connect().await;
    let (topic, group) = (topic("again"), group("again"));
    make(&transport, &topic, 1).await;
    let publisher = publisher(&transport).await;
    publish(&publisher, &topic, numbered(0, 10, 1)).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(10).await;
    let mut given = member.all();
    given[0].progress.frontier = crate::support::at(3);
    let fence = given[0].fence;
    let answer = within(member.control.release(given)).await.unwrap();
    assert_eq!(answer, [Committed::Applied]);
    member.owned.clear();
    member.read_to(16).await;
    assert_eq!(member.read[10].1, 4);
    assert!(member.all()[0].fence > fence);
    member.drain().await;
}

/// Reads with short intervals, so that what would evict a member shows soon.
async fn impatient() -> AnyTransport {
    connect_to(&url_with(
        "session_timeout=6s&max_poll_interval=6s&revoke_budget=2s",
    ))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_of_twice_the_poll_interval_evicts_nobody() {
    let transport = impatient().await;
    let (topic, group) = (topic("hold"), group("hold"));
    make(&transport, &topic, 2).await;
    let publisher = publisher(&transport).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.own_to(2).await;
    let held = member.all().remove(0);
    member
        .control
        .flow(&held.partition, held.fence, Flow::Stopped);
    let began = Instant::now();
    let mut sent = 0;
    // The other partition is read all the while, and nobody asks for the held one.
    while began.elapsed() < Duration::from_secs(13) {
        publish(&publisher, &topic, numbered(sent, sent + 16, 16)).await;
        sent += 16;
        let turn = Duration::from_millis(200);
        let _ = tokio::time::timeout(turn, async {
            loop {
                member.step().await;
            }
        })
        .await;
        assert_eq!(member.lost + member.revoked, 0, "evicted");
    }
    let other = member.read.len();
    assert!(other > 0 && other < sent, "{other} of {sent}");
    member.control.flow(&held.partition, held.fence, Flow::Open);
    member.read_to(sent).await;
    check(&[&member], sent, 16);
    assert_eq!(member.commit().await, [Committed::Applied; 2]);
    member.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_released_in_time_is_lost() {
    let transport = impatient().await;
    let (topic, group) = (topic("late"), group("late"));
    make(&transport, &topic, 2).await;
    let mut first = Member::join(&transport, &topic, &group).await;
    first.own_to(2).await;
    let late = first.all();
    let mut second = Member::join(&transport, &topic, &group).await;
    let mut revoking = false;
    let mut lost = Vec::new();
    while lost.is_empty() {
        match within(first.feed.next(Budget::default())).await.unwrap() {
            Signal::Revoking { partitions, .. } => revoking = !partitions.is_empty(),
            Signal::Lost { partitions } => lost = partitions,
            _ => {}
        }
    }
    assert!(revoking);
    second.own_to(1).await;
    let answers = within(first.control.release(late)).await.unwrap();
    let stale = answers.iter().filter(|a| **a == Committed::Stale).count();
    assert_eq!(stale, 1, "{answers:?}");
    first.close().await;
    second.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn return_topics_and_new_topics_are_found_later() {
    let transport = connect_to(&url_with("topic_refresh=200ms")).await;
    let prefix = fresh("found");
    let early = Topic::new(format!("{prefix}.early")).unwrap();
    let group = group("found");
    make(&transport, &early, 1).await;
    let pattern = interline_core::Pattern::new(format!("{prefix}.*")).unwrap();
    let spec = interline_core::SubscribeSpec::new(group.clone(), vec![pattern]);
    let (feed, control) = within(transport.subscribe(spec)).await.unwrap();
    let mut member = Member::of(feed, control);
    member.own_to(1).await;
    let late = Topic::new(format!("{prefix}.late")).unwrap();
    let returns = early.retry(&group);
    let others = early.retry(&interline_core::Group::new("others").unwrap());
    for topic in [&late, &returns, &others] {
        make(&transport, topic, 1).await;
    }
    let publisher = publisher(&transport).await;
    for topic in [&late, &returns, &others] {
        publish(&publisher, topic, vec![event(Some("key-0"), "0")]).await;
    }
    member.own_to(3).await;
    member.read_to(2).await;
    let owned: Vec<&Topic> = member
        .owned
        .keys()
        .map(|partition| &partition.topic)
        .collect();
    assert_eq!(owned, [&early, &returns, &late]);
    member.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_twice_and_dropping_are_fine() {
    let transport = connect().await;
    let (topic, group) = (topic("close"), group("close"));
    make(&transport, &topic, 1).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.own_to(1).await;
    let control = member.control.clone();
    within(control.close(PATIENCE)).await.unwrap();
    within(control.close(PATIENCE)).await.unwrap();
    assert!(within(member.feed.next(Budget::default())).await.is_err());
    assert!(within(control.commit(member.all())).await.is_err());
    let mut dropped = Member::join(&transport, &topic, &group).await;
    dropped.own_to(1).await;
    drop(dropped);
    // Its partition is free at once, not after the session timeout.
    let began = Instant::now();
    let mut next = Member::join(&transport, &topic, &group).await;
    next.own_to(1).await;
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    next.drain().await;
}

/// Owns everything well before the session of a member that ended in silence would lapse.
async fn own_soon(member: &mut Member, partitions: usize, round: usize) {
    let owning = tokio::time::timeout(Duration::from_secs(20), member.own_to(partitions));
    assert!(owning.await.is_ok(), "round {round}: its place is taken");
}

/// A member that ends without saying so keeps its partitions from the next one for a whole
/// session, here longer than the test waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_ends_leaves_the_group() {
    let url = url_with("session_timeout=45s&max_poll_interval=90s");
    let transport = connect_to(&url).await;
    let (topic, group) = (topic("ends"), group("ends"));
    // Many partitions take longer to be given back: the end then comes in the middle of it.
    make(&transport, &topic, 60).await;
    for round in 0..20 {
        let mut member = Member::join(&transport, &topic, &group).await;
        own_soon(&mut member, 60, round).await;
        match round {
            0 => member.close().await,
            1 => {
                let mut next = Member::join(&transport, &topic, &group).await;
                // It ends in the middle of handing over.
                while !matches!(
                    within(member.feed.next(Budget::default())).await.unwrap(),
                    Signal::Revoking { .. }
                ) {}
                member.close().await;
                own_soon(&mut next, 60, round).await;
                next.drain().await;
            }
            _ => member.drain().await,
        }
    }
}
