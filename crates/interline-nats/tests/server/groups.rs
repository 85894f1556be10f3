//! Groups: where they are kept, and who may make that.

use interline_core::{
    Admin as _, Checkpoint, Control as _, ErrorKind, GroupInfo, LagAccuracy, Pattern, Position,
    Progress, Range, SubscribeSpec, TopicSpec, Transport as _,
};
use serde_json::json;

use crate::raw::{ask, client, update};
use crate::support::{
    Member, connect, connect_to, fresh, group, make, numbered, publish, publisher, topic, url_with,
    within,
};

fn partition_lags(
    groups: &[GroupInfo],
    group: &interline_core::Group,
) -> Vec<(Option<u64>, Option<Position>)> {
    let info = groups.iter().find(|info| info.group == *group).unwrap();
    let lags = info.partitions.iter();
    lags.map(|lag| {
        assert_eq!(lag.accuracy, LagAccuracy::Exact);
        (lag.lag, lag.end)
    })
    .collect()
}

/// The events of one partition are not dense in the stream: lag counts them all the same, also
/// beyond the frontier.
#[tokio::test(flavor = "multi_thread")]
async fn lag_counts_events_and_not_positions() {
    let transport = connect().await;
    let (topic, group) = (topic("lag"), group("lag"));
    make(&transport, &topic, 2).await;
    let publisher = publisher(&transport).await;
    let stored = publish(&publisher, &topic, numbered(0, 100, 25)).await;
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(100).await;
    let of: Vec<u64> = stored
        .iter()
        .filter(|(p, _)| *p == 0)
        .map(|(_, at)| *at)
        .collect();
    let owned = member
        .owned
        .iter()
        .find(|(partition, _)| partition.index == 0);
    let (partition, (fence, _)) = owned.unwrap();
    let progress = Progress {
        frontier: Some(Position::from(of[4])),
        done: vec![
            Range {
                first: Position::from(of[6]),
                last: Position::from(of[8]),
            },
            Range {
                first: Position::from(of[11]),
                last: Position::from(of[11]),
            },
        ],
        ..Progress::default()
    };
    let checkpoint = Checkpoint {
        partition: partition.clone(),
        fence: *fence,
        progress,
    };
    within(member.control.commit(vec![checkpoint]))
        .await
        .unwrap();
    let groups = within(transport.admin().groups(Some(&topic)))
        .await
        .unwrap();
    let lags = partition_lags(&groups, &group);
    assert_eq!(
        lags[0],
        (
            Some(of.len() as u64 - 9),
            of.last().copied().map(Position::from)
        )
    );
    assert_eq!(lags[1].0, Some(100 - of.len() as u64));
    assert_eq!(groups[0].members, 1);
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_do_not_see_each_other() {
    let (one, two) = (fresh("one"), fresh("two"));
    let one = connect_to(&url_with(&format!("namespace={one}"))).await;
    let two = connect_to(&url_with(&format!("namespace={two}"))).await;
    let (topic, group) = (topic("shared.name"), group("shared"));
    for (transport, events) in [(&one, 10), (&two, 20)] {
        make(transport, &topic, 2).await;
        publish(&publisher(transport).await, &topic, numbered(0, events, 5)).await;
        let mut member = Member::join(transport, &topic, &group).await;
        member.read_to(events).await;
        member.drain().await;
        let known = transport.admin().topics(&Pattern::ANY).await.unwrap();
        assert_eq!(known.len(), 1, "{known:?}");
        let groups = transport.admin().groups(None).await.unwrap();
        assert_eq!(groups.len(), 1, "{groups:?}");
    }
    two.admin().delete_group(&group).await.unwrap();
    assert_eq!(one.admin().groups(Some(&topic)).await.unwrap().len(), 1);
}

/// In production nothing is made unasked, and the error says how to make it.
#[tokio::test(flavor = "multi_thread")]
async fn production_only_verifies() {
    let name = fresh("prod");
    let transport = connect_to(&url_with(&format!("namespace={name}&profile=production"))).await;
    let topic = topic("verified");
    let spec = SubscribeSpec::new(group("g"), vec![Pattern::exact(topic.as_str())]);
    let missing = within(transport.subscribe(spec.clone())).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(
        missing.to_string().contains("interline topics create"),
        "{missing}"
    );
    let client = client().await;
    let stream = format!("{name}+{topic}");
    let config = json!({
        "name": stream,
        "subjects": [format!("{name}.{topic}.0")],
        "num_replicas": 1,
        "metadata": { "interline.partitions": "1" },
    });
    ask(&client, &format!("STREAM.CREATE.{stream}"), &config).await;
    let missing = within(transport.subscribe(spec.clone())).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Config);
    assert!(missing.to_string().contains("nats kv add"), "{missing}");
    // Whoever makes topics makes the buckets too.
    let made = transport
        .admin()
        .ensure(vec![TopicSpec::new(topic.clone())])
        .await;
    made.unwrap();
    let (_feed, control) = within(transport.subscribe(spec)).await.unwrap();
    within(control.close(crate::support::PATIENCE))
        .await
        .unwrap();
}

/// A bucket that kept its keys for longer would have dead members live on.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_with_another_time_is_refused() {
    let name = fresh("times");
    let transport = connect_to(&url_with(&format!("namespace={name}"))).await;
    let topic = topic("times");
    make(&transport, &topic, 1).await;
    let bucket = format!("KV_interline-members_{name}");
    let hour = json!(3_600_000_000_000_u64);
    update(&client().await, &bucket, &[("max_age", hour)]).await;
    let spec = SubscribeSpec::new(group("g"), vec![Pattern::exact(topic.as_str())]);
    let refused = within(transport.subscribe(spec)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    let said = refused.to_string();
    assert!(
        said.contains("nats stream edit") && said.contains(&bucket),
        "{said}"
    );
}
