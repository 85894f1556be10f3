#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use interline_core::{Durability, ErrorKind};
use interline_transport::settings::Profile;
use tokio_postgres::config::SslMode;

use super::Config;

fn refused(url: &str) -> String {
    let error = Config::try_from(url).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert_eq!(error.transport(), Some("postgres"));
    let text = format!("{error} {error:?}");
    assert!(!text.contains("hunter2"), "{text}");
    error.to_string()
}

#[test]
fn the_url_wins_over_the_fields() {
    let mut config = Config::try_from("postgres://127.0.0.1/shop?partitions=3&poll=1s").unwrap();
    config.partitions = 5;
    config.topic_refresh = Duration::from_secs(9);
    let resolved = config.resolve().unwrap();
    assert_eq!(resolved.config.partitions, 3);
    assert_eq!(resolved.config.poll, Duration::from_secs(1));
    assert_eq!(resolved.config.topic_refresh, Duration::from_secs(9));
    assert_eq!(resolved.driver.get_dbname(), Some("shop"));
    assert_eq!(resolved.driver.get_ports(), [5432]);
    assert_eq!(resolved.schema.name(), "interline");
}

#[test]
fn loopback_is_plain_and_development() {
    let resolved = Config::try_from("postgres://localhost")
        .unwrap()
        .resolve()
        .unwrap();
    assert_eq!(resolved.driver.get_ssl_mode(), SslMode::Disable);
    assert_eq!(resolved.profile, Profile::Development);
    assert_eq!(resolved.min_durability, Durability::Memory);
}

#[test]
fn another_machine_is_never_plain_in_silence() {
    assert!(refused("postgres://ada:hunter2@db.example/shop").contains("tls=on"));
    let url = "postgres://ada:hunter2@db.example/shop?tls=on";
    let resolved = Config::try_from(url).unwrap().resolve().unwrap();
    assert_eq!(resolved.driver.get_ssl_mode(), SslMode::Require);
    assert!(resolved.tls.is_some());
    assert_eq!(resolved.min_durability, Durability::Disk);
    let url = "postgres://ada:hunter2@db.example/shop?insecure=1";
    let resolved = Config::try_from(url).unwrap().resolve().unwrap();
    assert_eq!(resolved.driver.get_ssl_mode(), SslMode::Disable);
}

#[test]
fn what_is_wrong_is_named_without_secrets() {
    for (url, word) in [
        ("postgres://", "names no server"),
        ("postgresql://localhost", "postgres://"),
        ("postgres://u:hunter2@localhost?partition=3", "partition"),
        ("postgres://u:hunter2@localhost?partitions=0", "partitions"),
        ("postgres://u:hunter2@localhost?connections=0", "connections"),
        ("postgres://u:hunter2@localhost?poll=0s", "poll"),
        ("postgres://u:hunter2@localhost?retention=7", "retention"),
        ("postgres://localhost?tls_ca=/no/such/file", "tls_ca"),
    ] {
        assert!(refused(url).contains(word), "{url}: {}", refused(url));
    }
    let url = "postgres://localhost?namespace=a%22b";
    let error = Config::try_from(url).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn a_configuration_is_read_from_text() {
    let text = r#"{"url": "postgres://localhost", "namespace": "eu", "retention": "1d", "password": "hunter2"}"#;
    let config: Config = serde_json::from_str(text).unwrap();
    assert_eq!(config.retention, Duration::from_secs(86_400));
    assert_eq!(config.resolve().unwrap().schema.name(), "interline_eu");
    assert!(!format!("{config:?}").contains("hunter2"));
}
