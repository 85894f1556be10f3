//! Publishing, reading and settling on a real broker.

use crate::support::{
    Member, at, connect, event, group, make, numbered, publish, publisher, topic, within,
};
use bytes::Bytes;
use interline_core::{
    Admin, Budget, Checkpoint, Committed, Control, Envelope, ErrorKind, Feed, HeaderName, Key,
    Kind, Pattern, Position, Progress, Range, Signal, Start, Suspect, Transport,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_read_byte_by_byte() {
    let transport = connect().await;
    let (topic, group) = (topic("bytes"), group("bytes"));
    make(&transport, &topic, 3).await;
    let kind = Kind::new("/shop", "shop.order.placed")
        .unwrap()
        .content_type("application/octet-stream");
    let sent: Vec<Envelope> = [
        (Some(&b""[..]), Some(&b""[..])),
        (None, None),
        (Some(b"\0"), Some(b"\0\xff")),
        (Some("ключ".as_bytes()), Some(&[7; 100_000])),
    ]
    .into_iter()
    .map(|(key, payload)| {
        let mut envelope = Envelope::builder(kind.clone())
            .subject("order/1")
            .tenant("acme")
            .header("x-twice", Bytes::from_static(b"\xff\0"))
            .header("x-twice", "2")
            .header("x-empty", "")
            .build()
            .unwrap();
        envelope = envelope.with_key(key.map(Key::copy_from_slice));
        envelope.with_payload(payload.map(Bytes::copy_from_slice))
    })
    .collect();
    let publisher = publisher(&transport).await;
    publish(&publisher, &topic, sent.clone()).await;

    let mut member = Member::join(&transport, &topic, &group).await;
    let mut read = Vec::new();
    while read.len() < sent.len() {
        match within(member.feed.next(Budget::default())).await.unwrap() {
            Signal::Batch(batch) => read.extend(batch.records.into_iter().map(|r| r.envelope)),
            Signal::Assigned(checkpoints) => member.assigned(checkpoints),
            other => panic!("{other:?}"),
        }
    }
    for envelope in &sent {
        let copy = read.iter().find(|copy| copy.id() == envelope.id());
        let copy = copy.expect("it was published");
        assert_eq!(copy, envelope);
        assert!(copy.headers().iter().eq(envelope.headers().iter()));
        assert_eq!(
            copy.headers()
                .iter()
                .map(|(name, _)| name.clone())
                .collect::<Vec<_>>(),
            ["x-twice", "x-twice", "x-empty"].map(HeaderName::from_static)
        );
    }
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_comes_back_with_all_its_parts() {
    let transport = connect().await;
    let (topic, group) = (topic("checkpoint"), group("checkpoint"));
    make(&transport, &topic, 1).await;
    let publisher = publisher(&transport).await;
    publish(&publisher, &topic, numbered(0, 100, 7)).await;

    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(100).await;
    let mut checkpoint = member.all().remove(0);
    let range = |first, last| Range {
        first: Position::from(first),
        last: Position::from(last),
    };
    checkpoint.progress = Progress {
        frontier: at(9),
        done: vec![range(11, 19), range(30, 30)],
        attempts: vec![(Position::from(10), 3)],
        unclean: 2,
        suspect: Some(Suspect {
            position: Position::from(10),
            deaths: 1,
        }),
    };
    let stored = checkpoint.progress.clone();
    let answer = within(member.control.commit(vec![checkpoint]))
        .await
        .unwrap();
    assert_eq!(answer, [Committed::Applied]);
    member.close().await;

    let lag = within(transport.admin().groups(Some(&topic)))
        .await
        .unwrap();
    let lag = lag.iter().find(|info| info.group == group).unwrap();
    assert_eq!(lag.partitions[0].frontier, at(9));
    assert_eq!(lag.partitions[0].end, at(99));
    assert_eq!(lag.partitions[0].lag, Some(80));

    let mut next = Member::join(&transport, &topic, &group).await;
    next.own_to(1).await;
    let Checkpoint { progress, .. } = next.all().remove(0);
    assert_eq!(progress, stored);
    // What is done is delivered again and known as done.
    next.read_to(80).await;
    assert_eq!(next.read[0].1, 10);
    assert_eq!(next.read[1].1, 20);
    next.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_settled_keeps_the_start() {
    let transport = connect().await;
    let (topic, group) = (topic("latest"), group("latest"));
    make(&transport, &topic, 1).await;
    let publisher = publisher(&transport).await;
    publish(&publisher, &topic, numbered(0, 10, 1)).await;
    let mut member = Member::start(&transport, &topic, &group, Start::Latest).await;
    member.own_to(1).await;
    assert_eq!(member.all()[0].progress.frontier, at(9));
    member.close().await;
    // The group is not new any more: what came meanwhile is read.
    publish(&publisher, &topic, numbered(10, 13, 1)).await;
    let mut member = Member::start(&transport, &topic, &group, Start::Latest).await;
    member.read_to(3).await;
    assert_eq!(member.read[0].1, 10);
    member.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_after_a_position_and_at_a_time() {
    let transport = connect().await;
    let topic = topic("starts");
    make(&transport, &topic, 1).await;
    let publisher = publisher(&transport).await;
    publish(&publisher, &topic, numbered(0, 10, 1)).await;
    let partition = interline_core::Partition::new(topic.clone(), 0);
    let start = Start::At(vec![(partition, Position::from(6))]);
    let mut member = Member::start(&transport, &topic, &group("at"), start).await;
    member.read_to(3).await;
    assert_eq!(member.read[0].1, 7);
    member.drain().await;
    let start = Start::Time(interline_core::Timestamp::from_unix_millis(1));
    let mut member = Member::start(&transport, &topic, &group("time"), start).await;
    member.read_to(10).await;
    assert_eq!(member.read[0].1, 0);
    member.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_position_ends_the_reading() {
    let transport = connect().await;
    let (topic, group) = (topic("lost"), group("lost"));
    make(&transport, &topic, 1).await;
    let publisher = publisher(&transport).await;
    publish(&publisher, &topic, numbered(0, 5, 1)).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(5).await;
    assert_eq!(member.commit().await, [Committed::Applied]);
    member.close().await;
    // The topic is made anew and shorter, as after the loss of a disk.
    let (admin, name) = (transport.admin(), Pattern::exact(topic.as_str()));
    within(transport.admin().delete_topic(&topic))
        .await
        .unwrap();
    within(async {
        while !within(admin.topics(&name)).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    make(&transport, &topic, 1).await;
    publish(&publisher, &topic, numbered(0, 2, 1)).await;
    // Deleting a topic deletes the offsets of groups: put the place back.
    let lost = interline_core::Partition::new(topic.clone(), 0);
    let start = Start::At(vec![(lost.clone(), Position::from(4))]);
    let refused = within(transport.admin().reset(&group, &topic, start.clone())).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::PositionLost);
    let other = crate::support::group("lost");
    let mut member = Member::start(&transport, &topic, &other, start).await;
    let error = loop {
        match within(member.feed.next(Budget::default())).await {
            Ok(Signal::Assigned(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::PositionLost, "{error}");
    assert!(error.to_string().contains("position 5"), "{error}");
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_where_java_puts_them() {
    let transport = connect().await;
    let topic = topic("keys");
    make(&transport, &topic, 12).await;
    let publisher = publisher(&transport).await;
    let keys = ["", "\0", "a", "ключ", "customer-17", "\u{1f980}", " ", "0"];
    let events = keys.iter().map(|key| event(Some(key), "x")).collect();
    let places = publish(&publisher, &topic, events).await;
    for (key, (partition, _)) in keys.iter().zip(places) {
        let expected = interline_transport::partition::for_key(key.as_bytes(), 12);
        assert_eq!(partition, expected, "{key:?}");
    }
}
