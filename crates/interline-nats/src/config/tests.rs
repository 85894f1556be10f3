use super::*;

fn message(url: &str) -> String {
    Config::try_from(url).unwrap_err().to_string()
}

#[test]
fn a_url_says_it_all() {
    let config = Config::try_from(
        "nats://a:4222,b?namespace=shop&request_timeout=3s&sync_always=on&inbox_prefix=_IN.x\
         &monitor=127.0.0.1:8222&insecure=1",
    )
    .unwrap();
    let resolved = config.resolve().unwrap();
    assert_eq!(resolved.endpoints, ["a:4222", "b:4222"]);
    assert_eq!(resolved.place, "nats://a:4222,b");
    assert_eq!(resolved.config.request_timeout, Duration::from_secs(3));
    assert!(resolved.config.sync_always && !resolved.is_tls);
}

#[test]
fn tls_is_another_word_for_nats_with_tls() {
    let resolved = Config::try_from("tls://broker.example").unwrap().resolve();
    let resolved = resolved.unwrap();
    assert!(resolved.is_tls);
    assert_eq!(resolved.endpoints, ["broker.example:4222"]);
}

#[test]
fn one_way_to_log_in() {
    for (url, wanted) in [
        ("nats://127.0.0.1", "Anonymous"),
        ("nats://ada:s3cret@127.0.0.1", "Password"),
        ("nats://s3cret@127.0.0.1", "Token"),
    ] {
        let resolved = Config::try_from(url).unwrap().resolve().unwrap();
        assert_eq!(format!("{:?}", resolved.login), wanted);
        assert!(!format!("{resolved:?}").contains("s3cret"), "{url}");
    }
    let mut both = Config::try_from("nats://ada:s3cret@127.0.0.1").unwrap();
    both.token = Some("s3cret".into());
    let refused = both.resolve().unwrap_err().to_string();
    assert!(refused.contains("more than one way"), "{refused}");
    assert!(!refused.contains("s3cret"), "{refused}");
}

#[test]
fn nothing_goes_out_readable_unasked() {
    assert!(message("nats://broker.example").contains("TLS is off"));
    let shown = message("nats://ada:s3cret@broker.example?insecure=1");
    assert!(shown.contains("would show the credentials"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn mistakes_are_named() {
    for (url, words) in [
        ("nats://", "names no server"),
        ("nats://a/b?insecure=1", "or a path"),
        ("kafka://a", "is no `nats://` URL"),
        ("nats://127.0.0.1?inbox_prefix=a%20b", "is no subject"),
        ("nats://127.0.0.1?inbox_prefix=>", "is no subject"),
        ("nats://127.0.0.1?request_timeout=0s", "is 0"),
        (
            "nats://127.0.0.1?sync_alwys=on",
            "did you mean `sync_always`?",
        ),
        (
            "nats://127.0.0.1?credentials=/no/such/file",
            "cannot be read",
        ),
        ("nats://127.0.0.1?namespace=a%20b", "not a legal name"),
    ] {
        let shown = message(url);
        assert!(shown.contains(words), "{url}: {shown}");
        assert!(shown.starts_with("nats "), "{shown}");
    }
}

#[test]
fn a_seed_signs_and_never_shows() {
    let pair = nkeys::KeyPair::new_user();
    let seed = pair.seed().unwrap();
    let folder = std::env::temp_dir().join(format!("interline-nats-{}", fastrand::u64(..)));
    std::fs::create_dir_all(&folder).unwrap();
    let (key, creds) = (folder.join("user.nk"), folder.join("user.creds"));
    std::fs::write(&key, &seed).unwrap();
    let text = format!(
        "-----BEGIN NATS USER JWT-----\nabc.def\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    std::fs::write(&creds, text).unwrap();
    for (setting, file) in [("nkey", &key), ("credentials", &creds)] {
        let url = format!("nats://127.0.0.1?{setting}={}", file.display());
        let resolved = Config::try_from(&*url).unwrap().resolve().unwrap();
        assert!(!format!("{resolved:?}").contains(&seed));
        let auth = resolved.login.answer(b"nonce").unwrap();
        let signature = auth.signature.unwrap();
        pair.verify(b"nonce", &signature).unwrap();
        assert_eq!(auth.jwt.is_some(), setting == "credentials");
    }
    std::fs::write(&key, "SUnonsense").unwrap();
    let shown = message(&format!("nats://127.0.0.1?nkey={}", key.display()));
    assert!(!shown.contains("SUnonsense"), "{shown}");
    std::fs::remove_dir_all(&folder).unwrap();
}
