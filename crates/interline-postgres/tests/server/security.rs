//! Encryption, credentials and least privileges.

use interline_core::{Admin as _, ErrorKind, Pattern, TopicSpec, Transport as _};
use interline_postgres::native::keep_house;
use interline_transport::settings::Address;

use crate::support::{
    Member, event, fresh, group, migrate, numbers, publish, publisher, topic, url, variable, with,
    within,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_connection_knows_the_server() {
    migrate().await;
    let url = variable("INTERLINE_POSTGRES_TLS_URL");
    let transport = within(interline_postgres::connect(&*url)).await.unwrap();
    let topic = topic("tls");
    let publisher = publisher(&transport).await;
    assert!(publish(&publisher, &topic, vec![event("a", 1)]).await[0].is_ok());
    assert_eq!(numbers(&transport, &topic).await, [1]);
    // An authority that did not sign it, and a name that the certificate does not hold.
    let strange = url.split("tls_ca=").next().unwrap().trim_end_matches(['?', '&']);
    let refused = within(interline_postgres::connect(with(strange, "tls=on"))).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    assert!(refused.remedy_text().unwrap().contains("tls_ca"), "{refused}");
    let other = url.replace("@localhost:", "@127.0.0.1:");
    let refused = within(interline_postgres::connect(other)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    assert!(refused.to_string().contains("host name"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_are_named_and_not_shown() {
    let address = Address::parse(&url()).unwrap();
    let password = address.password.unwrap();
    let wrong = url().replace(&format!(":{}@", password.reveal()), ":hunter2canary@");
    assert_ne!(wrong, url());
    let refused = within(interline_postgres::connect(wrong)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    let shown = format!("{refused} {refused:?}");
    assert!(!shown.contains("hunter2canary"), "{shown}");
    let nowhere = url().replace(&address.endpoints[0].to_string(), "127.0.0.1:9");
    let refused = within(interline_postgres::connect(nowhere)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    let shown = format!("{refused} {refused:?}");
    assert!(!shown.contains(password.reveal()) || password.reveal().len() < 12, "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_the_least_rights_publishes_consumes_and_operates() {
    migrate().await;
    let app = with(&variable("INTERLINE_POSTGRES_APP_URL"), "profile=production");
    let app = within(interline_postgres::connect(app)).await.unwrap();
    let (topic, group) = (topic("least"), group("least"));
    let spec = TopicSpec::new(topic.clone()).partitions(2);
    app.admin().ensure(vec![spec]).await.unwrap();
    let publisher = publisher(&app).await;
    let batch = (0..20).map(|n| event(&format!("key-{n}"), n)).collect();
    assert!(publish(&publisher, &topic, batch).await.iter().all(interline_core::Outcome::is_ok));
    let mut member = Member::join(&app, &topic, &group).await;
    member.read_to(20).await;
    member.commit().await;
    member.drain().await;
    let groups = app.admin().groups(Some(&topic)).await.unwrap();
    assert_eq!(groups.len(), 1);
    app.admin().delete_group(&group).await.unwrap();
    // Keeping house is the owner's.
    assert!(!keep_house(&app).await.unwrap().ran);
    app.admin().delete_topic(&topic).await.unwrap();
    let left = app.admin().topics(&Pattern::exact(topic.as_str())).await.unwrap();
    assert!(left.is_empty());
    // A namespace of one's own takes the right to make schemas.
    let elsewhere = with(
        &variable("INTERLINE_POSTGRES_APP_URL"),
        &format!("namespace={}", fresh("denied")),
    );
    let denied = within(interline_postgres::connect(elsewhere)).await.unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::Denied, "{denied}");
}
