//! Retention, restored databases and other servers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use interline_core::{
    Admin as _, Budget, Control as _, ErrorKind, Feed as _, Pattern, Position, ReadSpec,
    Reader as _, Start, SubscribeSpec, Timestamp, Topic, TopicSpec, Transport as _, Until,
};
use interline_postgres::Transport;
use interline_postgres::native::keep_house;

use crate::support::{
    Member, bare, connect_with, content, event, eventually, fresh, group, number, publish,
    publisher, topic, url, with, within,
};

/// A schema of its own, since retention and sequences are of a whole schema.
struct Place {
    namespace: String,
    transport: Transport,
    topic: Topic,
}

impl Place {
    async fn new(retention: Duration) -> Self {
        let namespace = fresh("keep");
        let transport = connect_with(&format!("namespace={namespace}&maintain=off")).await;
        let topic = topic("keep");
        let spec = TopicSpec::new(topic.clone())
            .partitions(2)
            .retention(retention);
        transport.admin().ensure(vec![spec]).await.unwrap();
        Self {
            namespace,
            transport,
            topic,
        }
    }

    /// Another topic of the same schema.
    async fn beside(&self, retention: Duration) -> Self {
        let topic = topic("beside");
        let spec = TopicSpec::new(topic.clone())
            .partitions(2)
            .retention(retention);
        self.transport.admin().ensure(vec![spec]).await.unwrap();
        Self {
            namespace: self.namespace.clone(),
            transport: self.transport.clone(),
            topic,
        }
    }

    /// Keeps house until the topic keeps nothing; how many ranges were dropped meanwhile.
    async fn expire(&self) -> usize {
        let dropped = AtomicUsize::new(0);
        eventually(|| async {
            let done = keep_house(&self.transport).await.unwrap();
            dropped.fetch_add(done.dropped, Ordering::Relaxed);
            self.events().await == Some(0)
        })
        .await;
        dropped.into_inner()
    }

    /// How many events the topic is said to hold.
    async fn events(&self) -> Option<u64> {
        let pattern = Pattern::exact(self.topic.as_str());
        let topics = self.transport.admin().topics(&pattern).await.unwrap();
        topics[0].events
    }

    fn schema(&self) -> String {
        format!("\"interline_{}\"", self.namespace)
    }

    async fn run(&self, sql: &str) {
        let sql = sql.replace("{s}", &self.schema());
        bare().await.batch_execute(&sql).await.unwrap();
    }

    async fn count(&self, table: &str) -> i64 {
        let sql = format!("select count(*) from {}.{table}", self.schema());
        bare().await.query_one(&sql, &[]).await.unwrap().get(0)
    }

    async fn publish(&self, numbers: std::ops::Range<usize>) {
        let publisher = publisher(&self.transport).await;
        let events = numbers
            .map(|n| event(&format!("key-{}", n % 4), n))
            .collect();
        for outcome in publish(&publisher, &self.topic, events).await {
            assert!(outcome.is_ok(), "{outcome:?}");
        }
    }

    /// Keeps house until so many ranges were dropped in all.
    async fn keep_house(&self, wanted: usize) {
        let dropped = AtomicUsize::new(0);
        eventually(|| async {
            let done = keep_house(&self.transport).await.unwrap();
            dropped.fetch_add(done.dropped, Ordering::Relaxed) + done.dropped >= wanted
        })
        .await;
    }

    async fn numbers(&self, start: Start) -> interline_core::Result<Vec<usize>> {
        let found = content(&self.transport, &self.topic, start).await?;
        let mut numbers: Vec<_> = found.iter().map(|(_, r)| number(&r.envelope)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    async fn end(self) {
        self.run("drop schema {s} cascade").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_beyond_retention_are_dropped_and_said_to_be_lost() {
    let place = Place::new(Duration::from_millis(800)).await;
    place.publish(0..40).await;
    let first = content(&place.transport, &place.topic, Start::Earliest)
        .await
        .unwrap();
    let start = Start::At(vec![(first[0].0.clone(), first[0].1.position)]);
    assert_eq!(place.numbers(start.clone()).await.unwrap().len(), 39);
    let mut waiting = place
        .transport
        .read(ReadSpec {
            topics: vec![Pattern::exact(place.topic.as_str())],
            start: start.clone(),
            until: Until::Forever,
        })
        .await
        .unwrap();
    place.keep_house(1).await;
    place.publish(100..110).await;
    assert_eq!(
        place.numbers(Start::Earliest).await.unwrap(),
        (100..110).collect::<Vec<_>>()
    );
    let lost = place.numbers(start).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::PositionLost, "{lost}");
    // A reading that was overtaken says so too, instead of going on behind the gap.
    let reading = async {
        loop {
            if let Err(error) = waiting.next(Budget::default()).await {
                return error;
            }
        }
    };
    let overtaken = within(reading).await;
    assert_eq!(overtaken.kind(), ErrorKind::PositionLost, "{overtaken}");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_of_one_namespace_keep_events_for_different_times() {
    let long = Place::new(Duration::from_secs(3_600)).await;
    let short = long.beside(Duration::from_millis(300)).await;
    long.publish(0..20).await;
    short.publish(0..20).await;
    let all = content(&short.transport, &short.topic, Start::Earliest);
    let (partition, first) = all.await.unwrap().swap_remove(0);
    assert_eq!(short.expire().await, 0, "the other topic keeps its events");
    assert!(short.numbers(Start::Earliest).await.unwrap().is_empty());
    assert_eq!(
        long.numbers(Start::Earliest).await.unwrap(),
        (0..20).collect::<Vec<_>>()
    );
    assert_eq!(long.events().await, Some(20));
    let start = Start::At(vec![(partition, first.position)]);
    let lost = short.numbers(start).await.unwrap_err();
    assert_eq!(lost.kind(), ErrorKind::PositionLost, "{lost}");
    short.publish(20..24).await;
    let began = Start::Time(Timestamp::from_unix_millis(1));
    for start in [Start::Earliest, began] {
        let kept = short.numbers(start).await.unwrap();
        assert_eq!(kept, (20..24).collect::<Vec<_>>());
    }
    // The space comes back once no topic keeps anything of the range.
    long.transport
        .admin()
        .delete_topic(&long.topic)
        .await
        .unwrap();
    long.run("select {s}.next_range()").await;
    short.keep_house(1).await;
    long.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_deleted_topic() {
    let place = Place::new(Duration::from_millis(300)).await;
    place.publish(0..20).await;
    place.expire().await;
    assert!(place.count("retained").await > 0);
    let admin = place.transport.admin();
    admin.delete_topic(&place.topic).await.unwrap();
    assert!(keep_house(&place.transport).await.unwrap().ran);
    for table in ["topics", "owners", "members", "log", "retained"] {
        assert_eq!(place.count(table).await, 0, "{table}");
    }
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_not_dropped_before_its_writers_have_ended() {
    let long = Place::new(Duration::from_secs(3_600)).await;
    let short = long.beside(Duration::from_millis(300)).await;
    let writer = bare().await;
    let publish = format!(
        "begin; select {}.publish('{}', 'test.happened', '7')",
        long.schema(),
        long.topic
    );
    writer.batch_execute(&publish).await.unwrap();
    // Ids go on in the next range while the writer is open.
    short.publish(0..10).await;
    long.run("select {s}.next_range()").await;
    assert_eq!(short.expire().await, 0);
    let done = keep_house(&long.transport).await.unwrap();
    assert!(done.ran && done.dropped == 0, "{done:?}");
    writer.batch_execute("commit").await.unwrap();
    let done = keep_house(&long.transport).await.unwrap();
    assert!(done.ran && done.dropped == 0, "{done:?}");
    assert_eq!(long.numbers(Start::Earliest).await.unwrap(), [7]);
    long.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_waits_for_a_group_that_lives() {
    let place = Place::new(Duration::from_millis(400)).await;
    place.publish(0..20).await;
    let group = group("slow");
    let mut member = Member::join(&place.transport, &place.topic, &group).await;
    member.read_to(20).await;
    // It lives and has settled nothing.
    eventually(|| async {
        let reading = member.control.commit(Vec::new());
        reading.await.unwrap();
        let done = keep_house(&place.transport).await.unwrap();
        assert_eq!(done.dropped, 0);
        done.blocked.is_some()
    })
    .await;
    assert_eq!(place.numbers(Start::Earliest).await.unwrap().len(), 20);
    member.commit().await;
    place.keep_house(1).await;
    assert!(place.numbers(Start::Earliest).await.unwrap().is_empty());
    place.publish(20..25).await;
    member.read_to(25).await;
    member.drain().await;
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_was_away_too_long_is_told() {
    let place = Place::new(Duration::from_millis(300)).await;
    place.publish(0..20).await;
    let group = group("away");
    let mut member = Member::join(&place.transport, &place.topic, &group).await;
    member.own(2).await;
    let one = Budget {
        events: 1,
        ..Budget::default()
    };
    while member.read.is_empty() {
        let signal = within(member.feed.next(one)).await.unwrap();
        member.obey(signal).await;
    }
    member.commit().await;
    member.control.close(Duration::from_secs(9)).await.unwrap();
    place.keep_house(1).await;
    place.publish(20..21).await;
    let topics = vec![Pattern::exact(place.topic.as_str())];
    let spec = SubscribeSpec::new(group, topics);
    let (mut feed, _control) = within(place.transport.subscribe(spec)).await.unwrap();
    let ending = async {
        loop {
            if let Err(error) = feed.next(Budget::default()).await {
                return error;
            }
        }
    };
    let lost = within(ending).await;
    assert_eq!(lost.kind(), ErrorKind::PositionLost, "{lost}");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restored_without_its_sequence_is_refused() {
    let place = Place::new(Duration::from_secs(3_600)).await;
    place.publish(0..10).await;
    place.run("select setval('{s}.log_id', 1, false)").await;
    let again = with(&url(), &format!("namespace={}", place.namespace));
    let refused = within(interline_postgres::connect(&*again))
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
    let remedy = refused.remedy_text().unwrap();
    let fix = remedy.split('`').nth(1).unwrap();
    assert!(fix.contains("setval"), "{remedy}");
    place.run(fix).await;
    let transport = within(interline_postgres::connect(&*again)).await.unwrap();
    let publisher = publisher(&transport).await;
    assert!(publish(&publisher, &place.topic, vec![event("a", 10)]).await[0].is_ok());
    assert_eq!(
        place.numbers(Start::Earliest).await.unwrap(),
        (0..=10).collect::<Vec<_>>()
    );
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_with_the_same_data_begins_an_incarnation() {
    let place = Place::new(Duration::from_secs(3_600)).await;
    place.publish(0..4).await;
    let before = content(&place.transport, &place.topic, Start::Earliest)
        .await
        .unwrap();
    // As after a promotion: what is stored was stored by a server with another timeline.
    place
        .run("update {s}.incarnations set timeline = timeline + 1000")
        .await;
    let again = connect_with(&format!("namespace={}", place.namespace)).await;
    let publisher = publisher(&again).await;
    assert!(publish(&publisher, &place.topic, vec![event("key-0", 4)]).await[0].is_ok());
    let after = content(&again, &place.topic, Start::Earliest)
        .await
        .unwrap();
    let old: Vec<Position> = before.iter().map(|(_, r)| r.position).collect();
    let kept: Vec<Position> = after
        .iter()
        .map(|(_, r)| r.position)
        .filter(|p| p.0 == 1)
        .collect();
    assert_eq!(kept.len(), old.len(), "positions of what was there stay");
    let (partition, new) = after.iter().find(|(_, r)| r.position.0 == 2).unwrap();
    assert_eq!(number(&new.envelope), 4);
    // The same id under the old incarnation is a place that this server does not have.
    let lost = Position(1, new.position.1);
    let start = Start::At(vec![(partition.clone(), lost)]);
    let error = content(&again, &place.topic, start).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PositionLost, "{error}");
    place.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn production_migrates_nothing_and_names_the_fix() {
    let namespace = fresh("none");
    let settings = format!("namespace={namespace}&profile=production");
    let refused = within(interline_postgres::connect(with(&url(), &settings))).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
    assert!(refused.to_string().contains("migrations"), "{refused}");
    // By hand, in any client.
    let client = bare().await;
    for migration in interline_postgres::native::migrations(Some(&namespace)).unwrap() {
        let sql = format!("begin; {}; commit", migration.sql);
        client.batch_execute(&sql).await.unwrap();
    }
    let transport = connect_with(&settings).await;
    let missing = transport.publisher(Default::default()).await.unwrap();
    let outcome = publish(&missing, &topic("none"), vec![event("a", 1)])
        .await
        .remove(0);
    let error = outcome.into_result().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let drop = format!("drop schema \"interline_{namespace}\" cascade");
    client.batch_execute(&drop).await.unwrap();
}
