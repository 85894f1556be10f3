use std::time::Duration;

use super::*;

fn resolve(url: &str) -> Result<(Shared, Address)> {
    Shared::from(url).resolve("kafka", &["group_instance", "librdkafka.*"])
}

#[test]
fn a_url_is_taken_apart() {
    let (shared, mut address) = resolve(
        "kafka://ada:p%40ss%2Fword@a:9092,[::1]:9093/x?namespace=n%20s&profile=prod&tls_ca=/ca.pem\
         &min_durability=D2&group_instance=i&librdkafka.a.b=c",
    )
    .unwrap();
    assert_eq!(address.user.as_deref(), Some("ada"));
    assert_eq!(address.password.as_ref().unwrap().reveal(), "p@ss/word");
    assert_eq!(address.endpoints[0].with_port(1), "a:9092");
    assert_eq!(address.endpoints[1].with_port(1), "[::1]:9093");
    assert_eq!(shared.namespace.as_deref(), Some("n s"));
    assert_eq!(shared.profile(&address), Profile::Production);
    assert_eq!(shared.min_durability, Some(Durability::Disk));
    assert!(shared.uses_tls(&address).unwrap());
    assert_eq!(address.take("group_instance").as_deref(), Some("i"));
    assert_eq!(address.query().count(), 1);
}

#[test]
fn no_error_shows_a_credential() {
    for url in [
        "kafka://ada:hunter2@a:port",
        "kafka//ada:hunter2@a",
        "kafka://ada:hun/ter2@a:9092/x?y",
        "redis://ada:hunter2@a:9092?password=hunter2",
        "kafka://ada:hunter2@a?tsl=hunter2",
        "kafka://ada:hunter2%ff@a",
        "ka\nfka://ada:hunter2@a",
        "kafka://ada:hunter2@a:9092\n?tls=on",
        "kafka://ada:hunter2@a?tls",
    ] {
        let error = resolve(url).unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(!text.contains("hunter") && !text.contains("ter2"), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.remedy_text().is_some());
        let debug = format!("{:?}", Shared::from(url));
        assert!(!debug.contains("hunter"), "{debug}");
    }
    let (_, address) = resolve("kafka://ada:hunter2@a?librdkafka.x=hunter2").unwrap();
    let shown = format!("{address:?} {address}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[test]
fn an_unknown_key_names_its_neighbour() {
    let error = resolve("kafka://localhost?namespaec=x")
        .unwrap_err()
        .to_string();
    assert!(error.contains("did you mean `namespace`?"), "{error}");
    let error = resolve("kafka://localhost?frobnicate=x")
        .unwrap_err()
        .to_string();
    assert!(error.contains("known are namespace, profile"), "{error}");
    assert!(resolve("kafka://localhost?librdkafka.debug=all").is_ok());
}

#[test]
fn tls_is_required_off_this_machine() {
    let tls = |url| {
        let (shared, address) = resolve(url).unwrap();
        shared.uses_tls(&address)
    };
    assert!(!tls("kafka://localhost:1,127.0.0.1,[::1]").unwrap());
    assert!(!tls("kafka://").unwrap());
    assert!(tls("kafka://localhost?tls=on").unwrap());
    assert!(tls("kafka://localhost?tls_ca=x").unwrap());
    assert!(tls("kafka://localhost,example.org").is_err());
    assert!(tls("kafka://example.org?tls=off").is_err());
    assert!(!tls("kafka://example.org?insecure=1").unwrap());
    assert!(tls("kafka://localhost?tls=off&tls_ca=x").is_err());
    assert!(resolve("kafka://localhost?tls=maybe").is_err());
}

#[test]
fn the_profile_follows_the_endpoints() {
    let profile = |url| {
        let (shared, address) = resolve(url).unwrap();
        let level = shared.min_durability(&address, Durability::Quorum);
        (shared.profile(&address), level)
    };
    let (development, production) = (Profile::Development, Profile::Production);
    assert_eq!(
        profile("kafka://localhost"),
        (development, Durability::Memory)
    );
    assert_eq!(profile("kafka://a"), (production, Durability::Quorum));
    assert_eq!(profile("kafka://a?profile=dev").0, development);
    assert_eq!(
        profile("kafka://a?min_durability=D1").1,
        Durability::Process
    );
}

#[test]
fn a_file_gives_the_same_as_a_url() {
    let shared: Shared = serde_json::from_str(
        r#"{"url":"kafka://a","profile":"production","tls":{"ca":"/ca.pem"},"min_durability":"D3"}"#,
    )
    .unwrap();
    let (from_url, _) =
        resolve("kafka://a?profile=production&tls_ca=/ca.pem&min_durability=D3").unwrap();
    assert_eq!(
        (&shared.tls, shared.profile),
        (&from_url.tls, from_url.profile)
    );
    assert_eq!(shared.min_durability, from_url.min_durability);
    assert!(serde_json::from_str::<Shared>(r#"{"min_durability":"D9"}"#).is_err());
}

#[test]
fn durations_have_units() {
    assert_eq!(
        parse_duration("x", "250ms").unwrap(),
        Duration::from_millis(250)
    );
    for text in [
        "",
        "s",
        "1 s",
        "-1s",
        "1w",
        "99999999999999999999s",
        "18446744073709551615d",
    ] {
        assert!(parse_duration("x", text).is_err(), "{text}");
    }
}
