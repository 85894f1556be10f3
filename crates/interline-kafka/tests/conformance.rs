//! The conformance suite on a real broker. `INTERLINE_KAFKA_URL` names it;
//! `INTERLINE_KAFKA_KILL` and `INTERLINE_KAFKA_START` are shell commands that kill it at once and
//! start it again on its data.

use std::env;
use std::process::{Command, ExitCode};
use std::time::Duration;

use interline_core::{Error, ErrorKind, Result};
use interline_kafka::Config;
use interline_testkit::{Foreign, Harness, Suite};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

fn main() -> ExitCode {
    Suite::new("kafka", harness).main()
}

fn harness() -> Harness {
    Harness::new(|| async {
        // Members that outlive the restart of the broker go on at once, so that the suite does not
        // wait for them; what an eviction costs is tested apart.
        let url = url()?;
        let sign = if url.contains('?') { '&' } else { '?' };
        let quick = "session_timeout=30s&max_poll_interval=30s&topic_refresh=1s";
        interline_kafka::connect(Config::try_from(format!("{url}{sign}{quick}"))?).await
    })
    .write_foreign(write)
    .outage(|| broker("KILL"), || broker("START"))
    .lease(Duration::from_secs(30))
    // The thread of a member keeps it alive, whoever asks its feed for signals.
    .lapses_unread(false)
}

fn missing(name: &str) -> Error {
    Error::new(ErrorKind::Config, "test", format!("{name} is not set"))
        .remedy("run it by `cargo xtask it kafka`")
}

fn url() -> Result<String> {
    let name = "INTERLINE_KAFKA_URL";
    env::var(name).map_err(|_| missing(name))
}

async fn broker(verb: &str) -> Result<()> {
    let name = format!("INTERLINE_KAFKA_{verb}");
    let command = env::var(&name).map_err(|_| missing(&name))?;
    let run = move || Command::new("sh").arg("-c").arg(command).output();
    let failed = |cause: String| Error::new(ErrorKind::Unavailable, "test", cause);
    let done = tokio::task::spawn_blocking(run).await;
    let done = done.map_err(|cause| failed(cause.to_string()))?;
    match done {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(failed(String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(cause) => Err(failed(cause.to_string())),
    }
}

/// Writes with the bare client.
async fn write(foreign: Foreign) -> Result<()> {
    let failed = |cause: String| Error::new(ErrorKind::Unavailable, "write foreign", cause);
    let url = url()?;
    let brokers = url.trim_start_matches("kafka://");
    let brokers = brokers.split(['?', '/']).next().unwrap_or_default();
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .map_err(|cause| failed(cause.to_string()))?;
    let mut headers = OwnedHeaders::new();
    for (key, value) in &foreign.headers {
        let value = Some(&value[..]);
        headers = headers.insert(Header { key, value });
    }
    let mut record = FutureRecord::<[u8], [u8]>::to(foreign.topic.as_str()).headers(headers);
    record.key = foreign.key.as_deref();
    record.payload = foreign.payload.as_deref();
    let sent = producer.send(record, Duration::from_secs(10)).await;
    sent.map(|_| ())
        .map_err(|(cause, _)| failed(cause.to_string()))
}
