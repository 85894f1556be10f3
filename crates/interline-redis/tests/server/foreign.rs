//! Streams that other applications write, or write to.

use interline_core::{
    Budget, ErrorKind, Outcome, Pattern, ReadSpec, Reader, Start, Transport as _, Until,
};
use interline_redis::native;

use super::support::{
    Member, Raw, batch, connect, content, fresh, group, lags, make, outcomes, publish, publisher,
    stream, topic, within,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_stream_is_read_as_it_is() {
    let transport = connect().await;
    let (topic, group, key) = (topic("adopted"), group("adopted"), fresh("sensors"));
    let raw = Raw::connect().await;
    raw.run("XADD", &format!("{key} 5-5 data 1 room kitchen"))
        .await;
    native::adopt(&transport, &topic, &key).await.unwrap();
    // Adopting twice is fine, another stream under the same name is not.
    native::adopt(&transport, &topic, &key).await.unwrap();
    let other = native::adopt(&transport, &topic, "other")
        .await
        .unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Invalid);

    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(1).await;
    raw.run("XADD", &format!("{key} 7-0 data 2")).await;
    let publisher = publisher(&transport).await;
    let published = outcomes(&publisher, batch(&topic, 3..5)).await;
    assert!(published.iter().all(Outcome::is_ok), "{published:?}");
    member.read_to(4).await;
    assert_eq!(member.read, [1, 2, 3, 4]);
    member.settle().await;
    assert_eq!(lags(&transport, &topic, &group).await[0].1, None);
    member.close().await;

    let again = Member::join(&transport, &topic, &group).await;
    raw.run("XADD", &format!("{key} * data 5")).await;
    let mut again = again;
    again.read_to(1).await;
    assert_eq!(again.read, [5]);
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_stream_that_was_cut_is_noticed() {
    let transport = connect().await;
    let (topic, group, key) = (topic("cut"), group("cut"), fresh("sensors"));
    let raw = Raw::connect().await;
    for number in 1..10 {
        raw.run("XADD", &format!("{key} {number}-0 data {number}"))
            .await;
    }
    native::adopt(&transport, &topic, &key).await.unwrap();
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(9).await;
    member.settle().await;
    member.close().await;
    raw.run("XADD", &format!("{key} 10-0 data 10")).await;
    raw.run("XADD", &format!("{key} 11-0 data 11")).await;
    raw.run("XTRIM", &format!("{key} MINID = 11-0")).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    let end = member.end().await;
    assert_eq!(end.kind(), ErrorKind::PositionLost);
    assert!(
        end.message().contains("9-0") && end.message().contains("11-0"),
        "{end}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_may_write_to_a_topic() {
    let transport = connect().await;
    let (topic, group) = (topic("mixed"), group("mixed"));
    make(&transport, &topic, 1).await;
    let (raw, key) = (Raw::connect().await, stream(&topic, 0));
    let mut member = Member::join(&transport, &topic, &group).await;
    for round in 0..20 {
        publish(&transport, &topic, 10 * round..10 * round + 7).await;
        for number in 10 * round + 7..10 * round + 10 {
            raw.run("XADD", &format!("{key} * data {number}")).await;
        }
    }
    // Ahead of the clock: what interline writes next has to come behind it.
    let ahead = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_millis()
        + 60_000;
    raw.run("XADD", &format!("{key} {ahead}-7 data 200")).await;
    publish(&transport, &topic, 201..210).await;
    member.read_to(210).await;
    assert_eq!(member.read, (0..210).collect::<Vec<_>>());
    member.settle().await;
    member.close().await;
    let all = content(&transport, &topic).await.unwrap();
    assert_eq!(all.len(), 210);
    let mut again = Member::join(&transport, &topic, &group).await;
    publish(&transport, &topic, 210..211).await;
    again.read_to(1).await;
    assert_eq!(again.read, [210]);
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_may_start_at_an_event_of_another_client() {
    let transport = connect().await;
    let topic = topic("start");
    make(&transport, &topic, 1).await;
    let (raw, key) = (Raw::connect().await, stream(&topic, 0));
    publish(&transport, &topic, 0..5).await;
    let id = raw.run("XADD", &format!("{key} * data 5")).await;
    publish(&transport, &topic, 6..9).await;
    let place = id.as_string().unwrap().parse().unwrap();
    let spec = ReadSpec {
        topics: vec![Pattern::exact(topic.as_str())],
        start: Start::At(vec![(
            interline_core::Partition::new(topic.clone(), 0),
            place,
        )]),
        until: Until::End,
    };
    let mut reader = within(transport.read(spec)).await.unwrap();
    let batch = within(reader.next(Budget::default()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(batch.records.len(), 3);
}
