//! Who is let in, and what is said to those who are not.

use std::time::Duration;

use interline_core::{
    Admin as _, Error, ErrorKind, Outcome, Outgoing, Publisher as _, Topic, Transport as _,
};
use interline_nats::Config;
use tokio::time::timeout;

use crate::fake::Fake;
use crate::support::{
    Member, PATIENCE, connect_to, event, fresh, group, make, numbered, publish, publisher,
    url_with, within,
};

fn tls_url() -> String {
    std::env::var("INTERLINE_NATS_TLS_URL")
        .expect("INTERLINE_NATS_TLS_URL names a server with TLS and a login")
}

async fn refusal(url: &str) -> Error {
    let sign = if url.contains('?') { '&' } else { '?' };
    let config = Config::try_from(format!("{url}{sign}request_timeout=3s")).unwrap();
    within(interline_nats::connect(config)).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_travel_over_tls_with_a_login() {
    let transport = connect_to(&tls_url()).await;
    let topic = Topic::new(fresh("tls")).unwrap();
    make(&transport, &topic, 2).await;
    let publisher = publisher(&transport).await;
    publish(&publisher, &topic, numbered(0, 100, 5)).await;
    let mut member = Member::join(&transport, &topic, &group("tls")).await;
    member.read_to(100).await;
    member.drain().await;
    within(transport.close(PATIENCE)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_words_of_its_own() {
    let good = tls_url();
    let (login, rest) = good.split_once('@').unwrap();
    let user = login.rsplit_once(':').unwrap().0;
    let said = refusal(&format!("{user}:c4n4ry@{rest}")).await;
    assert!(said.to_string().contains("refuses the login"), "{said}");
    assert!(!format!("{said:?}").contains("c4n4ry"), "{said:?}");
    assert_eq!(said.kind(), ErrorKind::Denied);

    let other_ca = good.replace("/ca.pem", "/other-ca.pem");
    assert_ne!(other_ca, good);
    let said = refusal(&other_ca).await.to_string();
    assert!(said.contains("authority that is not trusted"), "{said}");

    let other_name = good.replace("@localhost:", "@127.0.0.1:");
    assert_ne!(other_name, good);
    let said = refusal(&other_name).await.to_string();
    assert!(said.contains("another host name"), "{said}");

    let said = refusal("nats://127.0.0.1:1").await.to_string();
    assert!(said.contains("refuses connections"), "{said}");
    let said = refusal("nats://no.such.host.invalid?insecure=1")
        .await
        .to_string();
    assert!(said.contains("not known"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_is_refused() {
    for version in ["2.9.10", "1.4.0", "nonsense"] {
        let fake = Fake::start(version).await;
        let said = refusal(&fake.url()).await;
        assert_eq!(said.kind(), ErrorKind::Unsupported, "{said}");
        let said = said.to_string();
        assert!(said.contains(version) && said.contains("2.10"), "{said}");
    }
}

/// The least-privileged user publishes and consumes; what it may not do is refused at once, in
/// words that name it.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_named() {
    let app = std::env::var("INTERLINE_NATS_APP_URL")
        .expect("INTERLINE_NATS_APP_URL names a user with the least privileges");
    let topic = Topic::new(fresh("app")).unwrap();
    make(
        &connect_to(&url_with("namespace=interline")).await,
        &topic,
        2,
    )
    .await;
    let transport = connect_to(&app).await;
    publish(&publisher(&transport).await, &topic, numbered(0, 100, 5)).await;
    let mut member = Member::join(&transport, &topic, &group("app")).await;
    member.read_to(100).await;
    member.drain().await;
    let admin = transport.admin();
    let denied = timeout(Duration::from_secs(5), admin.delete_topic(&topic))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Denied, "{denied}");
    assert!(denied.to_string().contains("STREAM.DELETE"), "{denied}");

    // Another namespace is none of its business.
    let other = app.replace("namespace=interline", "namespace=other");
    assert_ne!(other, app);
    make(&connect_to(&url_with("namespace=other")).await, &topic, 1).await;
    let publisher = publisher(&connect_to(&other).await).await;
    let outgoing = Outgoing::new(topic.clone(), event(None, "1"));
    let receipt = within(publisher.enqueue(vec![outgoing])).await.unwrap();
    match within(receipt).await.pop() {
        Some(Outcome::Rejected(error)) => assert_eq!(error.kind(), ErrorKind::Denied, "{error}"),
        other => panic!("{other:?}"),
    }
}
