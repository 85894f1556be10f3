//! What is kept, for whom, and what happens when it is too much.

use std::time::Duration;

use interline_core::{
    Admin as _, Budget, Cleanup, Control as _, Ensured, ErrorKind, Feed as _, Group, Outcome,
    Pattern, Position, Publisher as _, PublisherOptions, Range, ReadSpec, Reader as _, Signal,
    Start, TopicSpec, Transport as _, Until,
};
use interline_memory::Transport;
use tokio::time::Instant;

use crate::common::{Member, event, memory, payload, publish, publisher, spec, topic};

async fn held(transport: &Transport) -> u64 {
    let topics = transport.admin().topics(&Pattern::ANY).await.unwrap();
    topics.iter().filter_map(|info| info.events).sum()
}

async fn reader(transport: &Transport) -> interline_memory::native::Reader {
    let spec = ReadSpec {
        topics: vec![Pattern::new("t").unwrap()],
        start: Start::Earliest,
        until: Until::Forever,
    };
    transport.read(spec).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn without_a_group_the_oldest_events_make_room() {
    let transport = memory("partitions=3&capacity=1000").await;
    for n in 0..50 {
        publish(&transport, "t", n * 100..(n + 1) * 100).await;
        assert!(held(&transport).await <= 1_125);
    }
    assert!(held(&transport).await >= 900);
    let mut member = Member::join(&transport, spec("g", &["t"])).await;
    assert!(member.settle(900).await.contains(&"4999".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_full_topic_makes_publishing_wait_for_its_slowest_group() {
    let transport = memory("partitions=1&capacity=100").await;
    let mut slow = Member::join(&transport, spec("slow", &["t"])).await;
    let mut quick = Member::join(&transport, spec("quick", &["t"])).await;
    publish(&transport, "t", 0..100).await;
    quick.settle(100).await;
    let publisher = publisher(&transport).await;
    let begin = Instant::now();
    let wait = Duration::from_secs(5);
    let (outcomes, ()) = tokio::join!(publisher.enqueue(vec![event("t", "k", 100)]), async {
        tokio::time::advance(wait).await;
        slow.settle(1).await;
    });
    assert!(outcomes.unwrap().await[0].is_ok());
    assert!(begin.elapsed() >= wait);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_gives_up_after_its_time_and_names_the_group() {
    let transport = memory("partitions=1&capacity=10").await;
    let _idle = Member::join(&transport, spec("idle", &["t"])).await;
    publish(&transport, "t", 0..10).await;
    let begin = Instant::now();
    let options = PublisherOptions {
        publish_timeout: Duration::from_secs(3),
        ..PublisherOptions::default()
    };
    let publisher = transport.publisher(options).await.unwrap();
    let batch = vec![event("t", "k", 10), event("other", "k", 11)];
    let outcomes = publisher.enqueue(batch).await.unwrap().await;
    let [Outcome::Rejected(error), other] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert!(other.is_ok());
    assert!(
        error.is_transient() && error.to_string().contains("`idle`"),
        "{error}"
    );
    assert_eq!(begin.elapsed(), Duration::from_secs(3));
    // Deleting the group is the way out; it has to be dead first.
    let idle = Group::new("idle").unwrap();
    let refused = transport.admin().delete_group(&idle).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    tokio::time::advance(Duration::from_secs(15)).await;
    transport.admin().delete_group(&idle).await.unwrap();
    publish(&transport, "t", 10..11).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_enqueue_has_sent_nothing() {
    let transport = memory("partitions=1&capacity=10").await;
    let mut member = Member::join(&transport, spec("g", &["t"])).await;
    publish(&transport, "t", 0..10).await;
    let publisher = publisher(&transport).await;
    let waiting = publisher.enqueue(vec![event("other", "k", 1), event("t", "k", 10)]);
    let brief = tokio::time::timeout(Duration::from_secs(1), waiting).await;
    assert!(brief.is_err());
    member.settle(10).await;
    let info = transport
        .admin()
        .topics(&Pattern::new("other").unwrap())
        .await
        .unwrap();
    assert_eq!(info[0].events, Some(0));
    assert_eq!(publisher.stats().sent, 0);
}

#[tokio::test(start_paused = true)]
async fn a_fast_publisher_stays_in_bounded_memory_and_loses_nothing() {
    let transport = memory("capacity=500&history=100").await;
    let mut member = Member::join(&transport, spec("g", &["t"])).await;
    let publishing = async {
        for n in 0..200 {
            publish(&transport, "t", n * 50..(n + 1) * 50).await;
            assert!(held(&transport).await <= 500 + 50 + 113);
        }
    };
    let (seen, ()) = tokio::join!(member.settle(10_000), publishing);
    let mut seen: Vec<u64> = seen.iter().map(|id| id.parse().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..10_000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn readers_share_chunks_and_see_each_record_once() {
    let transport = memory("partitions=1&history=600").await;
    let mut reader = reader(&transport).await;
    let mut member = Member::join(&transport, spec("g", &["t"])).await;
    let mut read = Vec::new();
    let budget = Budget {
        events: 100,
        bytes: 1 << 20,
    };
    // Sizes around those of chunks, so that reading begins and ends within them.
    for (from, to) in [(0, 3), (3, 17), (17, 40), (40, 41), (41, 600), (600, 601)] {
        publish(&transport, "t", from..to).await;
        while (read.len() as u64) < to {
            let batch = reader.next(budget).await.unwrap().unwrap();
            read.extend(batch.records.iter().map(|record| record.position.1));
        }
    }
    assert_eq!(read, (0..601).collect::<Vec<_>>());
    assert_eq!(member.settle(601).await.len(), 601);
}

#[tokio::test(start_paused = true)]
async fn a_late_group_finds_history_and_a_slow_reader_is_told_what_it_lost() {
    let transport = memory("partitions=1&history=100").await;
    let mut reader = reader(&transport).await;
    let mut member = Member::join(&transport, spec("g", &["t"])).await;
    publish(&transport, "t", 0..500).await;
    member.settle(500).await;
    let mut late = Member::join(&transport, spec("late", &["t"])).await;
    let batch = late.batch().await;
    let first: u64 = payload(&batch.records[0]).parse().unwrap();
    // An eighth more than the history may be kept.
    assert!((500 - 113..=400).contains(&first), "{first}");
    assert_eq!(
        late.owned[0].progress.frontier,
        Some(Position::from(first - 1))
    );
    let error = reader.next(Budget::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PositionLost);
    assert!(error.to_string().contains("position 0 of t/0"), "{error}");
    assert!(error.to_string().contains(&first.to_string()), "{error}");
}

#[tokio::test(start_paused = true)]
async fn retention_drops_what_every_group_has_read_and_no_more() {
    let transport = memory("partitions=1&retention=1h").await;
    let mut member = Member::join(&transport, spec("g", &["t"])).await;
    publish(&transport, "t", 0..10).await;
    member.settle(5).await;
    let own = &member.owned[0].partition.clone();
    let five = member.checkpoint(own, Some(Position::from(4)));
    member.control.commit(vec![five]).await.unwrap();
    for _ in 0..3_700 {
        tokio::time::advance(Duration::from_secs(1)).await;
        let next = member.feed.next(Budget::default());
        assert!(tokio::time::timeout(Duration::ZERO, next).await.is_err());
    }
    publish(&transport, "t", 10..11).await;
    assert_eq!(held(&transport).await, 6);
}

#[tokio::test(start_paused = true)]
async fn a_group_without_members_keeps_its_place_for_the_retention_then_it_is_told() {
    let transport = memory("partitions=1&capacity=100&retention=1h").await;
    let mut member = Member::join(&transport, spec("g", &["t"])).await;
    publish(&transport, "t", 0..10).await;
    member.settle(10).await;
    member.control.close(Duration::ZERO).await.unwrap();
    publish(&transport, "t", 10..110).await;
    tokio::time::advance(Duration::from_secs(3_500)).await;
    let mut back = Member::join(&transport, spec("g", &["t"])).await;
    assert_eq!(payload(&back.batch().await.records[0]), "10");
    back.control.close(Duration::ZERO).await.unwrap();

    tokio::time::advance(Duration::from_secs(3_601)).await;
    for n in 0..5 {
        publish(&transport, "t", 110 + n * 100..210 + n * 100).await;
    }
    let (mut feed, _control) = transport.subscribe(spec("g", &["t"])).await.unwrap();
    assert!(matches!(
        feed.next(Budget::default()).await,
        Ok(Signal::Assigned(_))
    ));
    let error = feed.next(Budget::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PositionLost);
}

#[tokio::test(start_paused = true)]
async fn ensure_creates_what_is_missing_and_reports_how_the_rest_differs() {
    let transport = memory("profile=production").await;
    let admin = transport.admin();
    let spec = TopicSpec::new(topic("t")).partitions(6);
    let ensured = admin
        .ensure(vec![spec.clone(), spec.clone()])
        .await
        .unwrap();
    assert_eq!(ensured, [Ensured::Created, Ensured::Exists]);
    let other = spec
        .partitions(3)
        .retention(Duration::from_secs(60))
        .cleanup(Cleanup::Compact);
    let [Ensured::Drift(lines)] = &admin.ensure(vec![other]).await.unwrap()[..] else {
        panic!("it differs")
    };
    assert_eq!(
        lines[..],
        [
            "partitions: 6 instead of 3",
            "retention: 604800s instead of 60s",
            "cleanup: delete instead of compact"
        ]
    );
    publish(&transport, "t", 0..10).await;
    let info = admin.topics(&Pattern::new("*").unwrap()).await.unwrap();
    assert_eq!((info[0].partitions, info[0].events), (6, Some(10)));
}

#[tokio::test(start_paused = true)]
async fn lag_counts_what_is_not_settled() {
    let transport = memory("partitions=1").await;
    let mut member = Member::join(&transport, spec("g", &["t"])).await;
    publish(&transport, "t", 0..100).await;
    let batch = member.batch().await;
    let mut checkpoint = member.checkpoint(&batch.partition, Some(Position::from(9)));
    let range = |first: u64, last: u64| Range {
        first: Position::from(first),
        last: Position::from(last),
    };
    checkpoint.progress.done = vec![range(20, 29), range(98, 99)];
    member.control.commit(vec![checkpoint]).await.unwrap();
    let groups = transport.admin().groups(None).await.unwrap();
    let lag = &groups[0].partitions[0];
    assert_eq!((groups[0].members, lag.lag), (1, Some(78)));
    assert_eq!(
        (lag.frontier, lag.end),
        (Some(Position::from(9)), Some(Position::from(99)))
    );
    assert_eq!(lag.owner.as_deref(), Some("member-0"));
    let missing = transport
        .admin()
        .groups(Some(&topic("missing")))
        .await
        .unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_group_is_moved_only_while_nobody_is_in_it() {
    let transport = memory("partitions=1").await;
    publish(&transport, "t", 0..10).await;
    let (admin, group) = (transport.admin(), Group::new("g").unwrap());
    let mut member = Member::join(&transport, spec("g", &["t"])).await;
    member.settle(10).await;
    let refused = admin
        .reset(&group, &topic("t"), Start::Earliest)
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    member.control.close(Duration::ZERO).await.unwrap();
    let partition = interline_core::Partition::new(topic("t"), 0);
    let places = |index: u64| Start::At(vec![(partition.clone(), Position::from(index))]);
    let lost = admin
        .reset(&group, &topic("t"), places(10))
        .await
        .unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::PositionLost);
    admin.reset(&group, &topic("t"), places(6)).await.unwrap();
    let mut member = Member::join(&transport, spec("g", &["t"])).await;
    assert_eq!(member.settle(3).await, ["7", "8", "9"]);
}

#[tokio::test(start_paused = true)]
async fn deleting_a_topic_ends_who_named_it_and_frees_who_matched_it() {
    let transport = memory("partitions=2").await;
    let mut named = Member::join(&transport, spec("named", &["shop.a"])).await;
    publish(&transport, "shop.a", 0..10).await;
    publish(&transport, "shop.b", 0..1).await;
    let mut matched = Member::join(&transport, spec("matched", &["shop.*"])).await;
    named.next().await;
    matched.next().await;
    let (mut sent, admin) = (0, transport.admin());
    admin.delete_topic(&topic("shop.a")).await.unwrap();
    admin.delete_topic(&topic("shop.a")).await.unwrap();
    assert!(matches!(named.next().await, Signal::Lost { partitions } if partitions.len() == 2));
    for _ in 0..2 {
        let error = named.feed.next(Budget::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    while sent == 0 {
        match matched.next().await {
            Signal::Lost { partitions } => assert_eq!(partitions.len(), 2),
            Signal::Batch(batch) => {
                assert_eq!(batch.partition.topic, topic("shop.b"));
                sent += batch.records.len();
            }
            signal => panic!("{signal:?}"),
        }
    }
    // Made again it is another topic: nothing of the old one is left, and fences go on.
    let fence = named.owned.first().map_or(0, |own| own.fence);
    publish(&transport, "shop.a", 0..10).await;
    let mut again = Member::join(&transport, spec("named", &["shop.a"])).await;
    assert_eq!(again.settle(10).await.len(), 10);
    assert!(again.owned.iter().all(|own| own.fence > fence));
}
