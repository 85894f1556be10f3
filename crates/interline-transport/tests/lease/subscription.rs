//! The feed and the control when stores fail, members fall silent and instances come twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use interline_core::{
    Budget, Checkpoint, Committed, Control as _, ErrorKind, Feed as _, Flow, Group, Instance,
    Partition, Pattern, Position, Progress, Result, Signal, SubscribeSpec,
};
use interline_transport::lease::{Control, Feed, Timing, subscribe};
use tokio::time::{Instant, timeout, timeout_at};

use crate::yard::{Answers, Home, Yard};

const SECOND: Duration = Duration::from_secs(1);

/// A member that remembers what it owns.
struct Member {
    feed: Feed,
    control: Control,
    owned: BTreeMap<Partition, Checkpoint>,
    records: Vec<(Partition, Position)>,
}

fn spec(topics: &str, instance: Option<&str>) -> SubscribeSpec {
    let group = Group::new("readers").unwrap();
    let mut spec = SubscribeSpec::new(group, vec![Pattern::new(topics).unwrap()]);
    spec.instance = instance.map(|name| Instance::new(name).unwrap());
    spec
}

impl Member {
    async fn join(yard: &Arc<Yard>, spec: SubscribeSpec) -> Self {
        let home = Home(Arc::clone(yard));
        let (feed, control) = subscribe(home, spec, Timing::default()).await.unwrap();
        Self {
            feed,
            control,
            owned: BTreeMap::new(),
            records: Vec::new(),
        }
    }

    /// Takes signals until `done`, at most a minute, and says what the last one was.
    async fn until(&mut self, done: impl Fn(&Self, &Signal) -> bool) -> Signal {
        let by = Instant::now() + 60 * SECOND;
        loop {
            let signal = timeout_at(by, self.feed.next(Budget::default())).await;
            let signal = signal.expect("a signal within a minute").unwrap();
            self.take(&signal);
            if done(self, &signal) {
                return signal;
            }
        }
    }

    /// Takes signals for a while, and says how many partitions were lost.
    async fn during(&mut self, time: Duration) -> usize {
        let by = Instant::now() + time;
        let mut lost = 0;
        while let Ok(signal) = timeout_at(by, self.feed.next(Budget::default())).await {
            let signal = signal.unwrap();
            self.take(&signal);
            if let Signal::Lost { partitions } = signal {
                lost += partitions.len();
            }
        }
        lost
    }

    fn take(&mut self, signal: &Signal) {
        match signal {
            Signal::Assigned(checkpoints) => {
                for checkpoint in checkpoints {
                    let partition = checkpoint.partition.clone();
                    self.owned.insert(partition, checkpoint.clone());
                }
            }
            Signal::Batch(batch) => {
                let owned = self.owned.get_mut(&batch.partition).expect("owned");
                assert_eq!(owned.fence, batch.fence);
                for record in &batch.records {
                    assert!(
                        owned.progress.frontier < Some(record.position),
                        "out of order"
                    );
                    owned.progress.frontier = Some(record.position);
                    self.records
                        .push((batch.partition.clone(), record.position));
                }
            }
            Signal::Revoking { partitions, .. } | Signal::Lost { partitions } => {
                for partition in partitions {
                    self.owned.remove(partition).expect("owned");
                }
            }
        }
    }

    async fn owns(&mut self, count: usize) {
        while self.owned.len() != count {
            self.until(|_, _| true).await;
        }
    }

    async fn commit(&self) -> Result<Vec<Committed>> {
        self.control.commit(self.checkpoints()).await
    }

    fn checkpoints(&self) -> Vec<Checkpoint> {
        self.owned.values().cloned().collect()
    }

    async fn ended(&mut self) -> interline_core::Error {
        loop {
            match timeout(60 * SECOND, self.feed.next(Budget::default())).await {
                Ok(Ok(signal)) => self.take(&signal),
                Ok(Err(error)) => return error,
                Err(_) => panic!("the feed does not end"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_costs_nothing() {
    let yard = Yard::new(&[("orders", 4)]);
    let mut member = Member::join(&yard, spec("orders", None)).await;
    member.owns(4).await;
    // A store that hangs costs the time of one more answer.
    for (answers, seconds) in [(Answers::Refused, 8), (Answers::Never, 6)] {
        yard.answer(answers);
        assert_eq!(member.during(seconds * SECOND).await, 0);
        if answers == Answers::Refused {
            assert_eq!(member.commit().await.unwrap(), [Committed::NotNow; 4]);
        }
        yard.answer(Answers::AtOnce);
        assert_eq!(member.during(5 * SECOND).await, 0);
        assert_eq!(member.commit().await.unwrap(), [Committed::Applied; 4]);
    }
}

#[tokio::test(start_paused = true)]
async fn members_get_a_share_of_each_topic() {
    let yard = Yard::new(&[("busy", 4), ("quiet", 4)]);
    let mut first = Member::join(&yard, spec("*", None)).await;
    first.owns(8).await;
    let mut second = Member::join(&yard, spec("*", None)).await;
    let all = first.checkpoints();
    let revoking = |_: &Member, signal: &Signal| matches!(signal, Signal::Revoking { .. });
    first.until(revoking).await;
    let given = all.into_iter();
    let given = given.filter(|one| !first.owned.contains_key(&one.partition));
    first.control.release(given.collect()).await.unwrap();
    second.owns(4).await;
    for member in [&first, &second] {
        let busy = member.owned.keys().filter(|p| p.topic.as_str() == "busy");
        assert_eq!(busy.count(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_cannot_renew_stops_and_comes_back_under_another_fence() {
    for answers in [Answers::Refused, Answers::Never] {
        let yard = Yard::new(&[("orders", 4)]);
        let mut member = Member::join(&yard, spec("orders", None)).await;
        member.owns(4).await;
        let before = member.checkpoints();
        yard.answer(answers);
        let begun = Instant::now();
        member
            .until(
                |_, signal| matches!(signal, Signal::Lost { partitions } if partitions.len() == 4),
            )
            .await;
        let took = begun.elapsed();
        assert!((9 * SECOND..=10 * SECOND).contains(&took), "{took:?}");
        let calls = yard.count("commit");
        let answers = member.control.commit(before.clone()).await.unwrap();
        assert_eq!(answers, [Committed::Stale; 4]);
        assert_eq!(
            yard.count("commit"),
            calls,
            "a lost partition is known to be stale"
        );
        yard.answer(Answers::AtOnce);
        member.owns(4).await;
        for (former, now) in before.iter().zip(member.checkpoints()) {
            assert!(former.fence < now.fence);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_without_an_answer_loses_its_partitions() {
    let yard = Yard::new(&[("orders", 2)]);
    let mut member = Member::join(&yard, spec("orders", None)).await;
    member.owns(2).await;
    let (control, checkpoints) = (member.control.clone(), member.checkpoints());
    yard.answer(Answers::Never);
    let mut committing = Box::pin(control.commit(checkpoints));
    // It is on its way before the stores answer again.
    assert!(timeout(Duration::ZERO, &mut committing).await.is_err());
    let reading = async {
        yard.answer(Answers::AtOnce);
        member
            .until(|_, signal| matches!(signal, Signal::Lost { .. }))
            .await;
        member.owns(2).await;
    };
    let (answers, ()) = tokio::join!(committing, reading);
    assert_eq!(answers.unwrap(), [Committed::Stale; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_loses_what_it_owns() {
    let yard = Yard::new(&[("orders", 2)]);
    let mut silent = Member::join(&yard, spec("orders", None)).await;
    silent.owns(2).await;
    let begun = Instant::now();
    let mut other = Member::join(&yard, spec("orders", None)).await;
    other.owns(2).await;
    let took = begun.elapsed();
    let timing = Timing::default();
    let most = timing.lease + (timing.lease - timing.give_up) + 2 * SECOND;
    assert!(took <= most, "{took:?}");
    let late = silent.checkpoints();
    let answers = silent.control.commit(late).await.unwrap();
    assert_eq!(answers, [Committed::Stale; 2]);
    let signal = silent.until(|_, _| true).await;
    assert!(matches!(signal, Signal::Lost { .. }), "{signal:?}");
    // Both are there now, so they share.
    while silent.owned.len() != 1 || other.owned.len() != 1 {
        tokio::select! {
            _ = silent.until(|_, _| true) => {}
            signal = other.until(|_, _| true) => {
                if let Signal::Revoking { partitions, .. } = signal {
                    let fence = other.owned.values().map(|c| c.fence).max().unwrap_or(0);
                    let release = partitions.into_iter().map(|partition| Checkpoint {
                        partition,
                        fence,
                        progress: Progress::default(),
                    });
                    other.control.release(release.collect()).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_process_of_an_instance_replaces_the_first() {
    let yard = Yard::new(&[("orders", 3)]);
    let mut first = Member::join(&yard, spec("orders", Some("one"))).await;
    first.owns(3).await;
    let begun = Instant::now();
    let mut second = Member::join(&yard, spec("orders", Some("one"))).await;
    let ending = async {
        let error = first.ended().await;
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(error.to_string().contains("same instance"), "{error}");
        assert!(first.owned.is_empty(), "what was owned is lost first");
    };
    tokio::join!(second.owns(3), ending);
    assert!(begun.elapsed() <= 2 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(second.commit().await.unwrap(), [Committed::Applied; 3]);
    assert_eq!(second.during(30 * SECOND).await, 0);
    let orders = yard.state().topics.keys().next().unwrap().clone();
    let now = yard.now();
    assert_eq!(yard.state().tables.get_mut(&orders).unwrap().live(now), 1);
}

#[tokio::test(start_paused = true)]
async fn checkpoints_of_a_topic_are_stored_in_one_call() {
    let yard = Yard::new(&[("a", 12), ("b", 3)]);
    let mut member = Member::join(&yard, spec("*", None)).await;
    member.owns(15).await;
    assert_eq!(member.commit().await.unwrap(), [Committed::Applied; 15]);
    assert_eq!(yard.count("commit"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_release_in_an_outage_is_stored_when_it_is_over() {
    let yard = Yard::new(&[("orders", 2)]);
    let mut member = Member::join(&yard, spec("orders", None)).await;
    member.owns(2).await;
    yard.publish(5);
    member.until(|member, _| member.records.len() == 10).await;
    yard.answer(Answers::Refused);
    member.control.leave();
    let answers = member.control.release(member.checkpoints()).await.unwrap();
    assert_eq!(answers, [Committed::NotNow; 2]);
    yard.answer(Answers::AtOnce);
    member.owned.clear();
    assert_eq!(member.during(3 * SECOND).await, 0);
    let state = yard.state();
    for row in state.tables.values().flat_map(|table| &table.rows) {
        assert_eq!(row.progress.frontier, Some(Position::from(4)));
        assert_eq!(row.owner, None);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_feed_never_spoke_of_is_given_up_at_once() {
    let yard = Yard::new(&[("orders", 4)]);
    let mut first = Member::join(&yard, spec("orders", None)).await;
    // It owns everything and has not heard of it: nobody has asked its feed.
    let all = || {
        yard.state()
            .tables
            .values()
            .all(|t| t.rows.iter().all(|r| r.owner.is_some()))
    };
    while !all() {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    let mut second = Member::join(&yard, spec("orders", None)).await;
    second.owns(2).await;
    assert!(begun.elapsed() <= 3 * SECOND, "{:?}", begun.elapsed());
    first
        .until(|_, signal| matches!(signal, Signal::Assigned(_)))
        .await;
    assert_eq!(first.owned.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn closing_says_whether_the_stores_have_heard() {
    let yard = Yard::new(&[("orders", 2)]);
    let mut member = Member::join(&yard, spec("orders", None)).await;
    member.owns(2).await;
    member.control.close(SECOND).await.unwrap();
    member.control.close(SECOND).await.unwrap();
    assert_eq!(member.ended().await.kind(), ErrorKind::Closed);
    let committed = member.commit().await;
    assert_eq!(committed.unwrap_err().kind(), ErrorKind::Closed);

    let mut member = Member::join(&yard, spec("orders", None)).await;
    member.owns(2).await;
    yard.answer(Answers::Never);
    let begun = Instant::now();
    let closed = member.control.close(2 * SECOND).await;
    assert_eq!(closed.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(begun.elapsed() <= 2 * SECOND);
    assert_eq!(member.ended().await.kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn dropped_handles_end_everything() {
    let yard = Yard::new(&[("orders", 2)]);
    let mut member = Member::join(&yard, spec("orders", None)).await;
    member.owns(2).await;
    drop(member);
    // The tasks hold the yard until they have ended.
    while Arc::strong_count(&yard) > 1 {
        tokio::task::yield_now().await;
    }
    let calls = yard.state().calls.len();
    let waited = timeout(30 * SECOND, std::future::pending::<()>()).await;
    assert!(waited.is_err());
    assert_eq!(yard.state().calls.len(), calls);
}

#[tokio::test(start_paused = true)]
async fn a_reading_ahead_is_bounded_and_goes_on_where_it_was() {
    let yard = Yard::new(&[("orders", 3)]);
    let mut member = Member::join(&yard, spec("orders", None)).await;
    member.owns(3).await;
    yard.publish(5_000);
    let budget = Budget::default();
    let read = || yard.read.load(Ordering::SeqCst) as usize;
    member.until(|member, _| !member.records.is_empty()).await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let ahead = read() - member.records.len();
    assert!(
        ahead <= budget.events * 3 / 2,
        "{ahead} records were read ahead"
    );
    // A stopped partition holds nobody up, and comes on in order.
    let (stopped, fence) = {
        let owned = member.owned.values().next().unwrap();
        (owned.partition.clone(), owned.fence)
    };
    let of = |member: &Member, partition: &Partition| {
        member
            .records
            .iter()
            .filter(|(at, _)| at == partition)
            .count()
    };
    let before = of(&member, &stopped);
    member.control.flow(&stopped, fence, Flow::Stopped);
    let others = |member: &Member| member.records.len() - of(member, &stopped);
    member.until(|member, _| others(member) == 10_000).await;
    assert_eq!(of(&member, &stopped), before);
    member.control.flow(&stopped, fence, Flow::Open);
    member
        .until(|member, _| member.records.len() == 15_000)
        .await;
    assert_eq!(member.commit().await.unwrap(), [Committed::Applied; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_budget_bounds_what_was_read_for_a_larger_one() {
    let yard = Yard::new(&[("orders", 1)]);
    let mut member = Member::join(&yard, spec("orders", None)).await;
    member.owns(1).await;
    yard.publish(100);
    for (events, bytes, most) in [
        (1, usize::MAX, 1),
        (7, usize::MAX, 7),
        (50, 1, 1),
        (50, 1_000, 10),
    ] {
        let budget = Budget { events, bytes };
        let signal = timeout(SECOND, member.feed.next(budget))
            .await
            .unwrap()
            .unwrap();
        let Signal::Batch(batch) = &signal else {
            panic!("{signal:?}");
        };
        assert!(
            (1..=most).contains(&batch.records.len()),
            "{}",
            batch.records.len()
        );
        member.take(&signal);
    }
    member.until(|member, _| member.records.len() == 100).await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_goes_ends_only_what_names_it() {
    for (topics, ends) in [("*", false), ("a", true)] {
        let yard = Yard::new(&[("a", 2), ("b", 2)]);
        let mut member = Member::join(&yard, spec(topics, None)).await;
        let owned = if ends { 2 } else { 4 };
        member.owns(owned).await;
        {
            let mut state = yard.state();
            let a = state.topics.keys().next().unwrap().clone();
            state.topics.remove(&a);
            state.tables.remove(&a);
        }
        // The reading notices first.
        yard.publish(3);
        if ends {
            let error = member.ended().await;
            assert_eq!(error.kind(), ErrorKind::NotFound);
            assert!(error.to_string().contains("`a`"), "{error}");
        } else {
            member.until(|member, _| member.owned.len() == 2).await;
            member.until(|member, _| member.records.len() == 6).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_group_ends_its_feeds() {
    let yard = Yard::new(&[("orders", 2)]);
    let mut member = Member::join(&yard, spec("orders", None)).await;
    member.owns(2).await;
    for table in yard.state().tables.values_mut() {
        table.rows.clear();
    }
    let error = member.ended().await;
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(error.to_string().contains("deleted"), "{error}");
    assert!(member.owned.is_empty());
}
