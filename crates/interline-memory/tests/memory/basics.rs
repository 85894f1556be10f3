//! Publishing, reading, committing.

use std::time::Duration;

use crate::common::{Member, event, memory, payload, publish, publisher, spec, topic};
use interline_core::{
    Admin as _, Budget, Committed, Control as _, ErrorKind, Feed as _, Flow, Outcome, Outgoing,
    Pattern, Position, Publisher as _, Purpose, ReadSpec, Reader as _, Signal, Start, State,
    Timestamp, Transport as _, Until,
};

#[tokio::test]
async fn a_name_is_shared_in_the_process_and_a_namespace_keeps_apart() {
    let connect = |url: &'static str| async move { interline_memory::connect(url).await.unwrap() };
    let (one, two) = (
        connect("memory://basics-shared").await,
        connect("memory://basics-shared").await,
    );
    let other = connect("memory://basics-shared?namespace=other").await;
    publish(&one, "t", 0..1).await;
    assert_eq!(two.admin().topics(&Pattern::ANY).await.unwrap().len(), 1);
    assert_eq!(other.admin().topics(&Pattern::ANY).await.unwrap().len(), 0);
    drop((one, two));
    let again = connect("memory://basics-shared").await;
    assert_eq!(again.admin().topics(&Pattern::ANY).await.unwrap().len(), 1);
    interline_memory::native::forget("basics-shared", None);
    let fresh = connect("memory://basics-shared").await;
    assert_eq!(fresh.admin().topics(&Pattern::ANY).await.unwrap().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn events_come_in_order_of_their_partition_once_and_after_assigned() {
    let transport = memory("").await;
    publish(&transport, "t", 0..1_000).await;
    let mut member = Member::join(&transport, spec("g", &["t"])).await;
    assert!(matches!(member.next().await, Signal::Assigned(all) if all.len() == 12));
    let mut next = [0_u64; 12];
    let mut seen = 0;
    while seen < 1_000 {
        let batch = member.batch().await;
        for record in &batch.records {
            let next = &mut next[batch.partition.index as usize];
            assert_eq!(record.position, Position::from(*next));
            *next += 1;
        }
        seen += batch.records.len();
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_at_once_fares_as_in_a_batch_or_stays_where_it_is() {
    let transport = memory("partitions=1&capacity=2").await;
    let publisher = publisher(&transport).await;
    let mut missing = Some(event("t", "k", 0));
    assert!(publisher.publish_at_once(&mut missing).is_none());
    assert!(
        missing.is_some(),
        "a topic that has to be made takes waiting"
    );
    let _member = Member::join(&transport, spec("g", &["t"])).await;
    let first = event("t", "k", 1);
    for (sent, stored) in [
        (first.clone(), true),
        (first, false),
        (event("t", "k", 2), true),
    ] {
        let mut offered = Some(sent);
        let outcome = publisher.publish_at_once(&mut offered);
        assert!(offered.is_none());
        match outcome {
            Some(Outcome::Stored { .. }) => assert!(stored),
            Some(Outcome::Duplicate { position }) => {
                assert!(!stored);
                assert_eq!(position, Some(Position::from(0)));
            }
            other => panic!("{other:?}"),
        }
    }
    let mut waits = Some(event("t", "k", 3));
    assert!(publisher.publish_at_once(&mut waits).is_none());
    assert!(waits.is_some(), "a full topic takes waiting");
    let stats = publisher.stats();
    assert_eq!((stats.sent, stats.stored, stats.duplicate), (3, 2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_single_event_goes_to_the_topic_that_bears_the_name_now() {
    let transport = memory("partitions=1").await;
    let publisher = publisher(&transport).await;
    for number in [0, 10] {
        let mut offered = Some(event("t", "k", number));
        assert!(publisher.publish_at_once(&mut offered).is_none());
        publish(&transport, "t", number..number + 1).await;
        let mut offered = Some(event("t", "k", number + 1));
        let outcome = publisher.publish_at_once(&mut offered);
        let second = Position::from(1);
        assert!(
            matches!(outcome, Some(Outcome::Stored { position, .. }) if position == second),
            "{outcome:?}"
        );
        transport.admin().delete_topic(&topic("t")).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_bounds_a_batch_but_one_record_always_comes() {
    let transport = memory("partitions=1").await;
    publish(&transport, "t", 0..10).await;
    let (mut feed, _control) = transport.subscribe(spec("g", &["t"])).await.unwrap();
    let mut sizes = Vec::new();
    for (events, bytes) in [(1, 1), (0, 0), (3, 1_000), (100, 40), (100, 1_000)] {
        loop {
            if let Signal::Batch(batch) = feed.next(Budget { events, bytes }).await.unwrap() {
                sizes.push(batch.records.len());
                break;
            }
        }
    }
    assert_eq!(sizes[..3], [1, 1, 3]);
    assert!((1..4).contains(&sizes[3]), "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_new_member_goes_on_from_the_checkpoint() {
    let transport = memory("partitions=1").await;
    publish(&transport, "t", 0..10).await;
    let mut first = Member::join(&transport, spec("g", &["t"])).await;
    let batch = first.batch().await;
    let at = |index: u64| Some(Position::from(index));
    let checkpoint = first.checkpoint(&batch.partition, at(3));
    let results = first
        .control
        .commit(vec![checkpoint.clone()])
        .await
        .unwrap();
    assert_eq!(results, [Committed::Applied]);
    first.control.close(Duration::ZERO).await.unwrap();

    let mut second = Member::join(&transport, spec("g", &["t"])).await;
    let batch = second.batch().await;
    assert_eq!(second.owned[0].progress, checkpoint.progress);
    assert!(second.owned[0].fence > checkpoint.fence);
    assert_eq!(payload(&batch.records[0]), "4");
    assert_eq!(
        first.feed.next(Budget::default()).await.unwrap_err().kind(),
        ErrorKind::Closed
    );
    let late = first.control.commit(vec![checkpoint]).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn copies_are_recognised_per_purpose_and_limits_are_checked() {
    let transport = memory("").await;
    let publisher = publisher(&transport).await;
    let original = event("t", "k", 1);
    let mut letter = original.clone();
    letter.purpose = Purpose::DeadLetter(1);
    let mut large = event("t", "k", 2);
    large.envelope = large
        .envelope
        .with_payload(Some(vec![0; (1 << 20) + 1].into()));
    let batch = vec![
        original.clone(),
        original.clone(),
        letter,
        large,
        event("t", "k", 3),
    ];
    let outcomes = publisher.enqueue(batch).await.unwrap().await;
    let Outcome::Stored {
        position: first, ..
    } = outcomes[0]
    else {
        panic!("{outcomes:?}")
    };
    assert!(matches!(outcomes[1], Outcome::Duplicate { position: Some(at) } if at == first));
    assert!(matches!(outcomes[2], Outcome::Stored { .. }));
    assert!(matches!(&outcomes[3], Outcome::Rejected(error) if error.kind() == ErrorKind::Limit));
    assert!(matches!(outcomes[4], Outcome::Stored { .. }));
    let stats = publisher.stats();
    assert_eq!((stats.sent, stats.stored, stats.duplicate), (5, 3, 1));
    assert_eq!((stats.rejected, stats.in_flight), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stopped_flow_delivers_nothing_until_it_is_opened_under_the_same_fence() {
    let transport = memory("partitions=1").await;
    let mut member = Member::join(&transport, spec("g", &["t"])).await;
    member.next().await;
    let own = member.owned[0].clone();
    member
        .control
        .flow(&own.partition, own.fence, Flow::Stopped);
    publish(&transport, "t", 0..1).await;
    let silence = Duration::from_secs(30);
    let next = member.feed.next(Budget::default());
    assert!(tokio::time::timeout(silence, next).await.is_err());
    member
        .control
        .flow(&own.partition, own.fence + 1, Flow::Open);
    let next = member.feed.next(Budget::default());
    assert!(tokio::time::timeout(silence, next).await.is_err());
    member.control.flow(&own.partition, own.fence, Flow::Open);
    assert_eq!(member.batch().await.records.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_next_loses_nothing() {
    let transport = memory("partitions=1").await;
    let mut member = Member::join(&transport, spec("g", &["t"])).await;
    member.next().await;
    let mut seen = Vec::new();
    for id in 0..200 {
        if id % 3 == 0 {
            publish(&transport, "t", id..id + 1).await;
        }
        let next = member.feed.next(Budget {
            events: 1,
            bytes: 1,
        });
        let step = Duration::from_millis(id % 4);
        if let Ok(Ok(Signal::Batch(batch))) = tokio::time::timeout(step, next).await {
            seen.extend(batch.records.iter().map(payload));
        }
    }
    let sent: Vec<_> = (0..200).step_by(3).map(|id| id.to_string()).collect();
    assert_eq!(seen, sent);
}

#[tokio::test(start_paused = true)]
async fn a_new_group_starts_where_it_says() {
    let transport = memory("partitions=1").await;
    publish(&transport, "t", 0..3).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let after = reader(&transport, Start::Earliest, Until::End).await[2].0 + 5_000;
    publish(&transport, "t", 3..5).await;
    let partition = interline_core::Partition::new(topic("t"), 0);
    let starts = [
        (Start::Earliest, "0"),
        (Start::Time(Timestamp::from_unix_millis(after)), "3"),
        (Start::At(vec![(partition.clone(), Position::from(0))]), "1"),
        (Start::Latest, "5"),
    ];
    let mut members = Vec::new();
    for (n, (start, first)) in starts.into_iter().enumerate() {
        let mut spec = spec(&format!("g{n}"), &["t"]);
        spec.start = start;
        members.push((Member::join(&transport, spec).await, first));
    }
    publish(&transport, "t", 5..6).await;
    for (member, first) in &mut members {
        assert_eq!(payload(&member.batch().await.records[0]), *first);
    }
    for position in [Position::from(6), Position(1, 0)] {
        let mut spec = spec("late", &["t"]);
        spec.start = Start::At(vec![(partition.clone(), position)]);
        let error = transport.subscribe(spec).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PositionLost);
    }
}

/// Everything that a reader finds: time and payload.
async fn reader(
    transport: &interline_memory::Transport,
    start: Start,
    until: Until,
) -> Vec<(i64, String)> {
    let topics = vec![Pattern::new("t").unwrap()];
    let spec = ReadSpec {
        topics,
        start,
        until,
    };
    let mut reader = transport.read(spec).await.unwrap();
    let mut found = Vec::new();
    while let Some(batch) = reader.next(Budget::default()).await.unwrap() {
        found.extend(batch.records.iter().map(|r| (r.stored_at, payload(r))));
    }
    found
}

#[tokio::test(start_paused = true)]
async fn a_reader_ends_where_it_says_and_disturbs_nobody() {
    let transport = memory("partitions=3").await;
    publish(&transport, "t", 0..50).await;
    let all = reader(&transport, Start::Earliest, Until::End).await;
    assert_eq!(all.len(), 50);
    let later = Timestamp::from_unix_millis(all[0].0 + 20_000);
    tokio::time::advance(Duration::from_secs(30)).await;
    publish(&transport, "t", 50..60).await;
    assert_eq!(
        reader(&transport, Start::Earliest, Until::Time(later))
            .await
            .len(),
        50
    );
    assert_eq!(
        reader(&transport, Start::Time(later), Until::End)
            .await
            .len(),
        10
    );
    let ahead = Timestamp::from_unix_millis(all[0].0 + 60_000);
    let (found, ()) = tokio::join!(
        reader(&transport, Start::Time(later), Until::Time(ahead)),
        async {
            tokio::time::advance(Duration::from_secs(10)).await;
            publish(&transport, "t", 60..61).await;
        }
    );
    assert_eq!(found.len(), 11);
    assert!(transport.admin().groups(None).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn closing_ends_everything_that_waits() {
    let transport = memory("partitions=1&capacity=1").await;
    let mut member = Member::join(&transport, spec("g", &["t"])).await;
    member.next().await;
    publish(&transport, "t", 0..1).await;
    member.batch().await;
    let publisher = publisher(&transport).await;
    let read = ReadSpec {
        topics: vec![Pattern::new("t").unwrap()],
        start: Start::Latest,
        until: Until::Forever,
    };
    let mut reader = transport.read(read).await.unwrap();
    let (next, publish, read, ()) = tokio::join!(
        member.feed.next(Budget::default()),
        publisher.enqueue(vec![event("t", "k", 9)]),
        reader.next(Budget::default()),
        async {
            tokio::time::advance(Duration::from_secs(1)).await;
            transport.close(Duration::ZERO).await.unwrap();
            transport.close(Duration::ZERO).await.unwrap();
        }
    );
    assert_eq!(next.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(publish.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(read.unwrap_err().kind(), ErrorKind::Closed);
    assert!(matches!(transport.state(), State::Failed { .. }));
    assert!(transport.subscribe(spec("g", &["t"])).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn foreign_bytes_are_read_and_marked() {
    let transport = memory("partitions=1").await;
    let write = interline_memory::native::write_raw;
    let headers: [(&[u8], &[u8]); 2] = [(b"ce_id", b"\xff"), (b"a", b"b")];
    write(&transport, &topic("t"), None, &headers, Some("x".into())).unwrap();
    let mut member = Member::join(&transport, spec("g", &["t"])).await;
    let batch = member.batch().await;
    let envelope = &batch.records[0].envelope;
    assert!(envelope.is_foreign());
    assert_eq!(envelope.id().to_string(), "t/0/0");
    assert_eq!(envelope.headers().len(), 2);
    let republished = Outgoing::new(topic("u"), envelope.clone());
    let publisher = publisher(&transport).await;
    let outcomes = publisher.enqueue(vec![republished]).await.unwrap().await;
    assert!(outcomes[0].is_ok());
}

#[tokio::test]
async fn production_creates_nothing_and_says_the_fix() {
    let transport = memory("profile=production").await;
    let publisher = publisher(&transport).await;
    let outcomes = publisher
        .enqueue(vec![event("t", "k", 1)])
        .await
        .unwrap()
        .await;
    let [Outcome::Rejected(error)] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("topics create t"), "{error}");
    let error = transport.subscribe(spec("g", &["t"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_bad_configuration_is_refused_in_one_line() {
    for url in [
        "memory://shop?partition=3",
        "memory://shop?partitions=0",
        "memory://shop?retention=7",
        "memory://shop:1",
        "memory://a,b",
        "kafka://a",
        "memory://shop?min_durability=D2",
    ] {
        let error = interline_memory::connect(url).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        assert!(error.remedy_text().is_some() && !error.to_string().contains('\n'));
    }
}
