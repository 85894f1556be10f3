//! Publishing in a transaction, by SQL and by the function of this crate.

use interline_core::{Envelope, EventId, Kind, Outcome, Outgoing, Start};
use interline_postgres::native::{publish_in, wake};
use tokio_postgres::error::SqlState;

use crate::support::{
    Member, bare, connect, content, event, group, key, make, number, numbers, publish, publisher,
    topic,
};

#[tokio::test(flavor = "multi_thread")]
async fn sql_publishes_an_event_as_any_other() {
    let transport = connect().await;
    let topic = topic("sql");
    make(&transport, &topic, 12).await;
    let client = bare().await;
    let sql = "select interline.publish($1, 'shop.order.placed', '{\"order\": 1}', key => 'ada',
        source => '/shop', id => 'order-1', subject => 'order/1',
        attributes => '{\"tenantid\": \"acme\", \"shard\": \"3\"}')";
    let id = client.query_one(sql, &[&topic.as_str()]).await.unwrap();
    assert!(id.get::<_, Option<i64>>(0).is_some());
    // A copy of an event whose id is no UUID is recognised by source and id, from both sides.
    let again = client.query_one(sql, &[&topic.as_str()]).await.unwrap();
    assert_eq!(again.get::<_, Option<i64>>(0), None);
    let publisher = publisher(&transport).await;
    let kind = || Kind::new("/shop", "shop.order.placed").unwrap();
    let copy = Envelope::builder(kind())
        .id(EventId::parse("order-1").unwrap())
        .key("ada")
        .build()
        .unwrap();
    let other = Envelope::builder(kind()).key("ada").build().unwrap();
    let outcomes = publish(&publisher, &topic, vec![copy, other]).await;
    assert!(matches!(outcomes[0], Outcome::Duplicate { .. }), "{outcomes:?}");
    let found = content(&transport, &topic, Start::Earliest).await.unwrap();
    let [(partition, sql), (same, ours)] = &found[..] else {
        panic!("{} events", found.len());
    };
    assert_eq!(partition, same, "the key has one partition");
    assert!(sql.position < ours.position);
    let envelope = &sql.envelope;
    assert!(!envelope.is_foreign());
    assert_eq!(
        (envelope.ty(), envelope.source(), envelope.subject()),
        ("shop.order.placed", "/shop", Some("order/1"))
    );
    assert_eq!(envelope.content_type(), Some("application/json"));
    assert_eq!(envelope.tenant_id(), Some("acme"));
    assert_eq!(envelope.attribute("shard").unwrap().to_text(), "3");
    assert_eq!(key(envelope), "ada");
    assert_eq!(&envelope.payload().unwrap()[..], b"{\"order\": 1}");
    let age = envelope.time().unwrap().unix_millis() - sql.stored_at;
    assert!(age.abs() < 1_000, "{age} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_refuses_what_a_publisher_refuses() {
    let transport = connect().await;
    let topic = topic("refused");
    make(&transport, &topic, 1).await;
    let client = bare().await;
    let invalid = SqlState::INVALID_PARAMETER_VALUE;
    for (arguments, code) in [
        ("$1 || '-x', 'a', '1'", SqlState::UNDEFINED_OBJECT),
        ("$1 || '.dlq', 'a', '1'", invalid.clone()),
        ("$1, '', '1'", invalid.clone()),
        ("$1, E'a\\nb', '1'", invalid.clone()),
        ("$1, 'a', '1', id => repeat('x', 129)", invalid.clone()),
        ("$1, 'a', '1', attributes => '{\"Id\": 1}'", invalid.clone()),
        ("$1, 'a', '1', attributes => '{\"type\": 1}'", invalid.clone()),
        (
            "$1, 'a', to_jsonb(repeat('x', 1048576))",
            SqlState::PROGRAM_LIMIT_EXCEEDED,
        ),
    ] {
        let sql = format!("select interline.publish({})", arguments.replace("$1", "$1::text"));
        let refused = client.query_one(&sql, &[&topic.as_str()]).await;
        let refused = refused.expect_err(arguments);
        assert_eq!(refused.code(), Some(&code), "{arguments}: {refused:?}");
    }
    assert!(numbers(&transport, &topic).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_transaction_are_there_if_it_commits() {
    let transport = connect().await;
    let (topic, group) = (topic("within"), group("within"));
    make(&transport, &topic, 3).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.own(3).await;
    let mut client = bare().await;
    let table = topic.as_str().replace('-', "_");
    let create = format!("create table public.\"{table}\" (n int)");
    client.batch_execute(&create).await.unwrap();
    for (round, commit) in [(0, true), (1, false), (2, true)] {
        let transaction = client.transaction().await.unwrap();
        let insert = format!("insert into public.\"{table}\" values ($1)");
        transaction.execute(&insert, &[&round]).await.unwrap();
        let one = event("a", round as usize * 10);
        let batch = [one.clone(), event("b", round as usize * 10 + 1), one]
            .map(|envelope| Outgoing::new(topic.clone(), envelope));
        let outcomes = publish_in(&transport, &transaction, batch.into()).await.unwrap();
        let stored = |outcome: &Outcome| matches!(outcome, Outcome::Stored { .. });
        assert_eq!(outcomes.iter().map(stored).collect::<Vec<_>>(), [true, true, false]);
        match commit {
            true => transaction.commit().await.unwrap(),
            false => transaction.rollback().await.unwrap(),
        }
        wake(&transport);
    }
    member.read_to(4).await;
    let mut read: Vec<usize> = member.read.iter().map(|(_, number)| *number).collect();
    read.sort_unstable();
    assert_eq!(read, [0, 1, 20, 21]);
    member.drain().await;
    let rows = client.query(&format!("select n from public.\"{table}\" order by n"), &[]).await;
    let rows: Vec<i32> = rows.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(rows, [0, 2]);
    client.batch_execute(&format!("drop table public.\"{table}\"")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_with_a_refused_event_publishes_nothing() {
    let transport = connect().await;
    let topic = topic("all");
    make(&transport, &topic, 1).await;
    let mut client = bare().await;
    let transaction = client.transaction().await.unwrap();
    let large = event("a", 2).with_payload(Some(vec![0; (1 << 20) + 1].into()));
    let batch = [event("a", 1), large].map(|envelope| Outgoing::new(topic.clone(), envelope));
    let refused = publish_in(&transport, &transaction, batch.into()).await;
    assert_eq!(refused.unwrap_err().kind(), interline_core::ErrorKind::Limit);
    transaction.commit().await.unwrap();
    let found = content(&transport, &topic, Start::Earliest).await.unwrap();
    let found: Vec<_> = found.iter().map(|(_, r)| number(&r.envelope)).collect();
    assert!(found.is_empty(), "{found:?}");
}
