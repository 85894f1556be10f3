//! Listing topics.

use interline_core::{Admin as _, Pattern, Topic, TopicSpec, Transport as _};

use crate::support::{connect_to, fresh, url_with, within};

/// Two requests a topic are more than the driver takes in at once, and on one thread it sends
/// nothing before all are made.
#[tokio::test]
async fn thousands_of_topics_are_listed() {
    let namespace = fresh("many");
    let transport = connect_to(&url_with(&format!("namespace={namespace}"))).await;
    let admin = transport.admin();
    let topics = (0..2_100).map(|n| Topic::new(format!("topic-{n}")).unwrap());
    let specs = topics.map(|topic| TopicSpec::new(topic).partitions(1));
    within(admin.ensure(specs.collect())).await.unwrap();
    let listed = within(admin.topics(&Pattern::ANY)).await.unwrap();
    assert_eq!(listed.len(), 2_100);
    let groups = within(admin.groups(None)).await.unwrap();
    assert!(groups.is_empty());
}
