use interline_core::ErrorKind;

use super::*;

fn resolve(url: &str) -> Result<Resolved> {
    Config::try_from(url)?.resolve()
}

#[test]
fn a_url_is_read() {
    let resolved =
        resolve("redis://ada:p%40ss@localhost:7/3?partitions=5&retention=1h&dedupe_window=10m")
            .unwrap();
    assert_eq!((&*resolved.host, resolved.port), ("localhost", 7));
    assert_eq!((resolved.database, resolved.config.partitions), (3, 5));
    assert_eq!(resolved.config.user.as_deref(), Some("ada"));
    assert_eq!(resolved.config.password.unwrap().reveal(), "p@ss");
    assert_eq!(
        resolved.config.dedupe_window,
        Some(Duration::from_secs(600))
    );
    assert!(!resolved.is_tls);
}

#[test]
fn two_esses_are_tls() {
    assert!(resolve("rediss://localhost").unwrap().is_tls);
    assert!(resolve("rediss://example.org").unwrap().is_tls);
    let refused = resolve("redis://example.org").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(!resolve("redis://example.org?insecure=1").unwrap().is_tls);
}

#[test]
fn what_is_wrong_is_named_without_secrets() {
    for url in [
        "redis://:hunter2@a,b",
        "redis://:hunter2@localhost/x",
        "redis://:hunter2@localhost?partitions=0",
        "redis://:hunter2@localhost?retention=5",
        "redis://:hunter2@localhost?dedupe=5s",
        "redis://:hunter2@localhost?namespace=a:b",
        "redis://:hunter2@localhost?durability=hunter2",
        "kafka://:hunter2@localhost",
    ] {
        let error = resolve(url).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        assert!(error.remedy_text().is_some(), "{error}");
    }
}

#[test]
fn an_empty_user_is_the_default_one() {
    let resolved = resolve("redis://:secret@localhost").unwrap();
    assert_eq!(resolved.config.user, None);
    assert!(!format!("{resolved:?}").contains("secret"));
}
