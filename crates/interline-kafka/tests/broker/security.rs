//! TLS and SASL on the listener that `INTERLINE_KAFKA_TLS_URL` names: a login over TLS, the
//! authority in `tls_ca`, another authority beside it in `other-ca.pem`. Client certificates on
//! the listener that `INTERLINE_KAFKA_MTLS_URL` names, with `tls_cert` and `tls_key`.

use std::time::Duration;

use interline_core::{AnyTransport, ErrorKind, Transport};
use interline_kafka::Config;
use interline_kafka::native::{Shared, Tls};

use crate::support::{connect_to, fresh, group, make, numbered, publish, publisher, url, within};

fn tls_url() -> String {
    std::env::var("INTERLINE_KAFKA_TLS_URL")
        .expect("INTERLINE_KAFKA_TLS_URL names a listener with TLS and SCRAM")
}

/// The listener that wants a client certificate, with the files as settings and not in the URL.
fn with_certificates() -> Config {
    let url = std::env::var("INTERLINE_KAFKA_MTLS_URL")
        .expect("INTERLINE_KAFKA_MTLS_URL names a listener that wants a client certificate");
    let shared = Shared::from(&*url);
    let (mut shared, address) = shared.resolve(interline_kafka::SCHEME, &[]).unwrap();
    shared.url = address.to_string();
    Config {
        shared,
        ..Config::default()
    }
}

async fn refusal(url: &str) -> String {
    refused(Config::try_from(url).unwrap()).await
}

async fn refused(mut config: Config) -> String {
    config.request_timeout = Duration::from_secs(3);
    let error = within(interline_kafka::connect(config)).await.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Denied | ErrorKind::Unavailable),
        "{error:?}"
    );
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_travel_over_tls_with_a_login() {
    let transport = connect_to(&tls_url()).await;
    let topic = interline_core::Topic::new(fresh("tls")).unwrap();
    make(&transport, &topic, 2).await;
    let publisher = publisher(&transport).await;
    publish(&publisher, &topic, numbered(0, 100, 5)).await;
    let mut member = crate::support::Member::join(&transport, &topic, &group("tls")).await;
    member.read_to(100).await;
    member.drain().await;
    within(transport.close(crate::support::PATIENCE))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_words_of_its_own() {
    let good = tls_url();
    let (login, rest) = good.split_once('@').unwrap();
    let user = login.rsplit_once(':').unwrap().0;
    let other_password = format!("{user}:c4n4ry@{rest}");
    let said = refusal(&other_password).await;
    assert!(
        said.contains("refuses the user, password or token"),
        "{said}"
    );
    assert!(!said.contains("c4n4ry"), "{said}");

    let other_ca = good.replace("/ca.pem", "/other-ca.pem");
    assert_ne!(other_ca, good);
    let said = refusal(&other_ca).await;
    assert!(said.contains("authority that is not trusted"), "{said}");

    let other_name = good.replace("@localhost:", "@127.0.0.1:");
    assert_ne!(other_name, good);
    let said = refusal(&other_name).await;
    assert!(said.contains("another host name"), "{said}");

    let plain = url();
    let said = refusal(&format!("{plain}?tls=on")).await;
    assert!(said.contains("does not speak TLS"), "{said}");

    let place = rest.split_once('?').map_or(rest, |(place, _)| place);
    let said = refusal(&format!("kafka://{place}")).await;
    assert!(said.contains("want TLS"), "{said}");

    let said = refusal("kafka://127.0.0.1:1").await;
    assert!(said.contains("refuses connections"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_accepted() {
    let connected = within(interline_kafka::connect(with_certificates())).await;
    let transport = AnyTransport::new(connected.unwrap());
    let topic = interline_core::Topic::new(fresh("mtls")).unwrap();
    make(&transport, &topic, 2).await;
    let publisher = publisher(&transport).await;
    publish(&publisher, &topic, numbered(0, 100, 5)).await;
    let mut member = crate::support::Member::join(&transport, &topic, &group("mtls")).await;
    member.read_to(100).await;
    member.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_foreign_client_certificate_is_refused_in_words_of_its_own() {
    let good = with_certificates();
    let with = |tls: Tls| {
        let mut config = good.clone();
        config.shared.tls = tls;
        config
    };
    let tls = &good.shared.tls;
    let said = refused(with(Tls {
        cert: None,
        key: None,
        ..tls.clone()
    }))
    .await;
    assert!(said.contains("wants a client certificate"), "{said}");
    assert!(said.contains("set `tls_cert` and `tls_key`"), "{said}");

    // An authority that the broker does not know vouches for itself.
    let beside = |name: &str| tls.ca.as_ref().map(|file| file.with_file_name(name));
    let said = refused(with(Tls {
        cert: beside("other-ca.pem"),
        key: beside("other-ca.key"),
        ..tls.clone()
    }))
    .await;
    assert!(said.contains("refuses the client certificate"), "{said}");
}
