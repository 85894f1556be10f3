//! Logging in, encryption, least privileges, and that no secret is ever shown.

use interline_core::{ErrorKind, Outcome};

use super::support::{
    Member, batch, connect_to, fresh, group, outcomes, publisher, refusal, topic, url, url_with,
};

fn named(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run `cargo xtask it redis`"))
}

#[tokio::test(flavor = "multi_thread")]
async fn least_privileges_are_enough() {
    let transport = connect_to(&named("INTERLINE_REDIS_APP_URL")).await;
    let (topic, group) = (topic("least"), group("least"));
    let publisher = publisher(&transport).await;
    let stored = outcomes(&publisher, batch(&topic, 0..100)).await;
    assert!(stored.iter().all(Outcome::is_ok), "{stored:?}");
    let mut member = Member::join(&transport, &topic, &group).await;
    member.read_to(100).await;
    member.settle().await;
    member.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_travel_over_tls() {
    for url in [
        named("INTERLINE_REDIS_TLS_URL"),
        named("INTERLINE_REDIS_TLS_URL").replacen("redis://", "rediss://", 1),
    ] {
        let transport = connect_to(&url).await;
        let topic = topic("tls");
        let publisher = publisher(&transport).await;
        assert!(
            outcomes(&publisher, batch(&topic, 0..10))
                .await
                .iter()
                .all(Outcome::is_ok)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_words_of_its_own() {
    let tls = named("INTERLINE_REDIS_TLS_URL");
    let other_name = tls.replacen("@localhost:", "@127.0.0.1:", 1);
    assert_ne!(other_name, tls);
    let no_ca = format!("{}?tls=on", tls.split('?').next().unwrap());
    let plain = format!(
        "{}?tls=on&request_timeout=2s",
        url().split('?').next().unwrap()
    );
    let port = tls.rsplit(':').next().unwrap().split('?').next().unwrap();
    let unencrypted = format!("redis://localhost:{port}?request_timeout=2s");
    for (url, said) in [
        (other_name, "another host name"),
        (no_ca, "an authority that is not trusted"),
        (plain, "does not answer"),
        (unencrypted, ""),
        ("redis://127.0.0.1:1".to_owned(), "refuses connections"),
    ] {
        let refused = refusal(&url).await;
        assert!(refused.message().contains(said), "{url}: {refused:?}");
        assert!(refused.remedy_text().is_some(), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_denied_and_never_shown() {
    let secret = fresh("canary");
    let place = url().split_once("://").unwrap().1.to_owned();
    let place = place.rsplit('@').next().unwrap().to_owned();
    for url in [
        format!("redis://interline:{secret}@{place}"),
        format!("redis://nobody:{secret}@{place}"),
        format!("redis://nobody:{secret}@127.0.0.1:1"),
        format!("redis://nobody:{secret}@example.invalid?insecure=1&request_timeout=5s"),
    ] {
        let refused = refusal(&url).await;
        let shown = format!("{refused} {refused:?}");
        assert!(!shown.contains(&secret), "{shown}");
        if !url.contains(":1") && !url.contains("invalid") {
            assert_eq!(refused.kind(), ErrorKind::Denied, "{refused:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_named() {
    // The least-privileged user may do nothing outside of its namespace.
    let url = named("INTERLINE_REDIS_APP_URL");
    let refused = refusal(&format!("{url}?namespace=elsewhere")).await;
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused:?}");
    assert!(refused.remedy_text().unwrap().contains("ACL"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_do_not_meet() {
    let (one, other) = (
        connect_to(&url_with("namespace=one")).await,
        connect_to(&url_with("namespace=other")).await,
    );
    let topic = topic("same");
    super::support::publish(&one, &topic, 0..10).await;
    super::support::publish(&other, &topic, 10..15).await;
    assert_eq!(
        super::support::content(&one, &topic).await.unwrap().len(),
        10
    );
    assert_eq!(
        super::support::content(&other, &topic).await.unwrap().len(),
        5
    );
}
