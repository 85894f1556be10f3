use super::*;

const CANARY: &str = "c4n4ry";

fn refused(url: &str) -> String {
    let error = Config::try_from(url).expect_err(url);
    let text = format!("{error} {error:?}");
    assert!(!text.contains(CANARY), "{text}");
    error.to_string()
}

#[test]
fn a_url_says_it_all() {
    let config = Config::try_from(
        "kafka://ada:p%40ss@localhost:9093,127.0.0.1?sasl=plain&linger=2ms&max_in_flight=5\
         &namespace=eu&kafka.client.rack=a&profile=production&min_durability=D1",
    )
    .unwrap();
    let resolved = config.resolve().unwrap();
    assert_eq!(resolved.place, "kafka://localhost:9093,127.0.0.1");
    let producer = resolved.producer(Duration::from_secs(30));
    for (name, value) in [
        ("bootstrap.servers", "localhost:9093,127.0.0.1:9092"),
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "ada"),
        ("sasl.password", "p@ss"),
        ("client.rack", "a"),
        ("linger.ms", "2"),
        ("max.in.flight", "5"),
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("partitioner", "murmur2_random"),
    ] {
        assert_eq!(producer.get(name), Some(value), "{name}");
    }
    let topic = interline_core::Topic::new("orders").unwrap();
    assert_eq!(resolved.names.topic(&topic), "eu.orders");
    assert_eq!(resolved.names.to_topic("eu.orders"), Some(topic));
    assert_eq!(resolved.names.to_topic("orders"), None);
}

#[test]
fn what_breaks_the_contract_is_refused_by_name() {
    for name in [
        "enable.idempotence",
        "acks",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "auto.offset.reset",
        "partitioner",
        "partition.assignment.strategy",
        "group.id",
        "isolation.level",
        "transactional.id",
    ] {
        let error = refused(&format!("kafka://localhost?kafka.{name}={CANARY}"));
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn credentials_are_not_shown_to_the_network() {
    let error = refused(&format!("kafka://ada:{CANARY}@broker:9092?insecure=1"));
    assert!(error.contains("without TLS"), "{error}");
    assert!(refused("kafka://broker:9092").contains("TLS is off"));
    assert!(Config::try_from("kafka://broker:9092?insecure=1").is_ok());
    assert!(Config::try_from("kafka://ada:x@broker:9093?tls=on").is_ok());
}

#[test]
fn mistakes_are_named() {
    for (settings, word) in [
        ("sasl=kerberos", "sasl"),
        ("sasl=plain", "user and a password"),
        ("sasl=oauthbearer", "tokens"),
        ("max_in_flight=6", "max_in_flight"),
        ("linger=2", "linger"),
        ("session_timeout=60s", "session_timeout"),
        ("revoke_budget=50s", "revoke_budget"),
        ("tls_ca=/no/such/file", "tls_ca"),
        ("lingre=2ms", "did you mean `linger`"),
    ] {
        let error = refused(&format!("kafka://localhost?{settings}"));
        assert!(error.contains(word), "{settings}: {error}");
    }
    assert!(refused("kafka://").contains("names no broker"));
    assert!(refused("kafka://localhost/path").contains("path"));
}

#[test]
fn no_debug_shows_a_secret() {
    let url = format!(
        "kafka://ada:{CANARY}@localhost?kafka.ssl.key.password={CANARY}&sasl=scram-sha-512"
    );
    let mut config = Config::try_from(&*url).unwrap();
    config.password = Some(CANARY.into());
    config
        .properties
        .insert("ssl.key.pem".to_owned(), CANARY.into());
    let shown = format!("{config:?} {:?}", config.resolve().unwrap());
    assert!(!shown.contains(CANARY), "{shown}");
}

#[test]
fn a_refused_value_of_librdkafka_is_not_shown() {
    let url = format!("kafka://localhost?kafka.ssl.providers={CANARY}&kafka.debug={CANARY}");
    let resolved = Config::try_from(&*url).unwrap().resolve().unwrap();
    let created = resolved
        .client()
        .create::<rdkafka::consumer::BaseConsumer>();
    let error = crate::error::kafka("connect", &created.err().unwrap());
    assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
}

#[test]
fn a_file_says_the_same() {
    let config: Config = serde_json::from_str(
        r#"{"url": "kafka://localhost", "sasl": "plain", "user": "ada", "password": "x",
            "linger": "3ms", "tls": {"insecure": false}, "properties": {"client.rack": "b"}}"#,
    )
    .unwrap();
    let resolved = config.resolve().unwrap();
    let producer = resolved.producer(Duration::from_secs(1));
    assert_eq!(producer.get("linger.ms"), Some("3"));
    assert_eq!(producer.get("sasl.username"), Some("ada"));
    assert_eq!(producer.get("client.rack"), Some("b"));
}
