use super::*;

fn meaning(line: &str) -> Option<&'static str> {
    diagnose(&[line.to_owned()]).map(|sign| sign.what)
}

#[test]
fn the_words_of_librdkafka_are_understood() {
    for (line, what) in [
        (
            "sasl_ssl://b:1/bootstrap: SASL authentication error: Authentication failed during \
             authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256",
            "password",
        ),
        (
            "ssl://b:1/bootstrap: SSL handshake failed: error:0A000086:SSL \
             routines::certificate verify failed: broker certificate could not be verified",
            "authority",
        ),
        (
            "ssl://b:1/bootstrap: SSL handshake failed: Disconnected: SSL connection closed by \
             peer: connecting to a PLAINTEXT broker listener?",
            "does not speak TLS",
        ),
        (
            "b:1/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN \
             (after 0ms in state APIVERSION_QUERY)",
            "want TLS",
        ),
        (
            "b:1/bootstrap: Disconnected: connection closed by peer (after 0ms in state UP)",
            "want a login",
        ),
        (
            "b:1/bootstrap: Connect to ipv4#b:1 failed: Connection refused",
            "refuses connections",
        ),
    ] {
        let found = meaning(line).unwrap_or("nothing");
        assert!(found.contains(what), "{line}: {found}");
    }
    assert_eq!(meaning("b:1: something new"), None);
}
