//! The conformance suite on a real server. `INTERLINE_REDIS_URL` names it;
//! `INTERLINE_REDIS_KILL` and `INTERLINE_REDIS_START` are shell commands that kill it at once and
//! start it again on its data. With `INTERLINE_REDIS_APP_URL` the suite runs under the least rights.

use std::env;
use std::process::{Command, ExitCode};
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, ConnectHandle, CustomCommand, Value};
use interline_core::{Error, ErrorKind, Result};
use interline_redis::Config;
use interline_testkit::{Foreign, Harness, Suite};
use tokio::time::timeout;

fn main() -> ExitCode {
    Suite::new("redis", harness).main()
}

fn harness() -> Harness {
    Harness::new(|| async { interline_redis::connect(Config::try_from(url()?)?).await })
        .write_foreign(write)
        .outage(kill, || server("START"))
}

/// A variable that the tests need.
fn set(name: &str) -> Result<String> {
    env::var(name).map_err(|_| {
        Error::new(ErrorKind::Config, "test", format!("{name} is not set"))
            .remedy("run it by `cargo xtask it redis`")
    })
}

fn failed(cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, "test", cause.to_string())
}

/// With a window, so that the scenarios about copies run too.
fn url() -> Result<String> {
    let url = set("INTERLINE_REDIS_URL")?;
    let url = match env::var("INTERLINE_REDIS_APP_URL") {
        // An encrypted listener is asked for by its own address.
        Ok(app) if !url.contains("tls_ca=") => app,
        _ => url,
    };
    let sign = if url.contains('?') { '&' } else { '?' };
    Ok(format!("{url}{sign}dedupe_window=10m"))
}

/// Kills the server once all that it has answered is in the hands of the system. It holds that back
/// while its last write to the disk is under way, for up to two seconds, and then loses it: so no
/// write may come between the look and the kill.
async fn kill() -> Result<()> {
    let url = plain()?;
    // Without a user one may do anything.
    let place = url
        .split_once('@')
        .map(|(_, place)| format!("redis://{place}"));
    let (client, driver) = bare(&place.unwrap_or(url)).await?;
    let ask = async |name: &'static str, words: &'static [&'static str]| {
        let command = CustomCommand::new_static(name, ClusterHash::FirstKey, false);
        let words = words.iter().map(|word| Value::from_static_str(word));
        let answer: Value = client
            .custom(command, words.collect())
            .await
            .map_err(failed)?;
        Ok::<_, Error>(answer)
    };
    let written = async {
        ask("CLIENT", &["PAUSE", "60000", "WRITE"]).await?;
        loop {
            let said = ask("INFO", &["persistence"]).await?;
            let said = said.as_string().unwrap_or_default();
            let is = |line: &str| said.lines().any(|known| known == line);
            let is_written = is("aof_pending_bio_fsync:0") && is("aof_buffer_length:0");
            if is_written || is("aof_enabled:0") {
                return Ok::<_, Error>(());
            }
            tokio::task::yield_now().await;
        }
    };
    let written = timeout(Duration::from_secs(60), written).await;
    driver.abort();
    written.map_err(failed)??;
    server("KILL").await
}

/// The server without encryption, whatever is tested.
fn plain() -> Result<String> {
    env::var("INTERLINE_REDIS_APP_URL").or_else(|_| url())
}

/// A connection of another kind.
async fn bare(url: &str) -> Result<(Client, ConnectHandle)> {
    let place = url.split('?').next().unwrap_or_default();
    let config = fred::types::config::Config::from_url(place).map_err(failed)?;
    let client = Client::new(config, None, None, None);
    let driver = client.init().await.map_err(failed)?;
    Ok((client, driver))
}

async fn server(verb: &str) -> Result<()> {
    let command = set(&format!("INTERLINE_REDIS_{verb}"))?;
    let run = move || Command::new("sh").arg("-c").arg(command).output();
    match tokio::task::spawn_blocking(run).await.map_err(failed)? {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(failed(String::from_utf8_lossy(&output.stderr))),
        Err(cause) => Err(failed(cause)),
    }
}

/// Writes an entry as any client would: a field per header, `key` and `data`.
async fn write(foreign: Foreign) -> Result<()> {
    let (client, driver) = bare(&plain()?).await?;
    let stream = format!("interline:{{{}}}:0", foreign.topic);
    let mut args: Vec<Value> = vec![stream.into(), "*".into()];
    for (name, value) in foreign.headers {
        args.extend([name.into(), Value::Bytes(value)]);
    }
    for (name, value) in [("key", foreign.key), ("data", foreign.payload)] {
        if let Some(value) = value {
            args.extend([name.into(), Value::Bytes(value)]);
        }
    }
    let add = CustomCommand::new_static("XADD", ClusterHash::FirstKey, false);
    let added: std::result::Result<Value, _> = client.custom(add, args).await;
    driver.abort();
    added.map(|_| ()).map_err(failed)
}
