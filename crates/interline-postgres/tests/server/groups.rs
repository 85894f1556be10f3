//! Members and what the server forgets.

use std::time::Duration;

use interline_core::{Start, Transport as _};

use crate::proxy::Proxy;
use crate::support::{
    Member, bare, content, event, eventually, group, make, publish, publisher, topic,
};

/// The application name of the connections that read.
const READERS: &str = "interline read";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_lost_after_it_was_read_is_read_again_from_the_checkpoint() {
    let proxy = Proxy::start().await;
    let transport = proxy.connect().await;
    let (topic, group) = (topic("undone"), group("undone"));
    make(&transport, &topic, 1).await;
    let publisher = publisher(&transport).await;
    for number in 0..3 {
        assert!(publish(&publisher, &topic, vec![event("a", number)]).await[0].is_ok());
    }
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(3).await;
    member.commit().await;
    assert!(publish(&publisher, &topic, vec![event("a", 3)]).await[0].is_ok());
    member.read_to(4).await;
    // As after a crash of a server with `synchronous_commit = off`: the last event is gone, and its
    // id is given again.
    let found = content(&transport, &topic, Start::Earliest).await.unwrap();
    let id = i64::try_from(found[3].1.position.1).unwrap();
    let undo =
        "update interline.log set payload = '9', created_at = clock_timestamp() where id = $1";
    assert_eq!(bare().await.execute(undo, &[&id]).await.unwrap(), 1);
    proxy.terminate(READERS).await;
    while member.lost == 0 {
        member.step().await;
    }
    member.read_to(5).await;
    let numbers: Vec<usize> = member.read.iter().map(|(_, number)| *number).collect();
    assert_eq!(
        numbers,
        [0, 1, 2, 3, 9],
        "from the checkpoint on, and nothing before it"
    );
    member.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_loses_no_ownership_and_no_event() {
    let proxy = Proxy::start().await;
    let transport = proxy.connect().await;
    let (topic, group) = (topic("cut"), group("cut"));
    make(&transport, &topic, 2).await;
    let publisher = publisher(&transport).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.own(2).await;
    for round in 0..5 {
        let batch = (0..20).map(|n| event(&format!("key-{}", n % 3), round * 20 + n));
        let outcomes = publish(&publisher, &topic, batch.collect()).await;
        assert!(outcomes.iter().all(interline_core::Outcome::is_ok));
        proxy.terminate(READERS).await;
        member.read_to((round + 1) * 20).await;
    }
    let mut numbers: Vec<usize> = member.read.iter().map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>(), "each once");
    assert_eq!(member.lost, 0);
    member.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_may_be_cut() {
    let proxy = Proxy::start().await;
    let transport = proxy.connect().await;
    let (topic, group) = (topic("all"), group("all"));
    make(&transport, &topic, 2).await;
    let publisher = publisher(&transport).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.own(2).await;
    for round in 0..3 {
        let batch = (0..20).map(|n| event("a", round * 20 + n)).collect();
        let outcomes = publish(&publisher, &topic, batch).await;
        assert!(
            outcomes.iter().all(interline_core::Outcome::is_ok),
            "{outcomes:?}"
        );
        proxy.terminate("interline%").await;
        member.read_to((round + 1) * 20).await;
    }
    eventually(|| async { transport.state() == interline_core::State::Connected }).await;
    let numbers: Vec<usize> = member.read.iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers, (0..60).collect::<Vec<_>>(), "each once, in order");
    eventually(|| async { transport.close(Duration::from_secs(9)).await.is_ok() }).await;
}
