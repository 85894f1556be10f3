//! The conformance suite on a real server. `INTERLINE_NATS_URL` names it; `INTERLINE_NATS_KILL`
//! and `INTERLINE_NATS_START` are shell commands that kill it at once and start it again on its
//! data. With `INTERLINE_NATS_OPERATOR_URL` the suite runs under the least rights of who makes topics.

use std::env;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, ExitCode};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use interline_core::{Error, ErrorKind, Result};
use interline_nats::Config;
use interline_testkit::{Foreign, Harness, Suite};

fn main() -> ExitCode {
    Suite::new("nats", harness).main()
}

fn harness() -> Harness {
    Harness::new(|| async { interline_nats::connect(Config::try_from(url()?)?).await })
        .write_foreign(write)
        .outage(|| server("KILL"), || server("START"))
        .lease(Duration::from_secs(15))
}

fn missing(name: &str) -> Error {
    Error::new(ErrorKind::Config, "test", format!("{name} is not set"))
        .remedy("run it by `cargo xtask it nats`")
}

fn url() -> Result<String> {
    let name = "INTERLINE_NATS_URL";
    let url = env::var(name).map_err(|_| missing(name))?;
    match env::var("INTERLINE_NATS_OPERATOR_URL") {
        // An encrypted listener is asked for by its own address.
        Ok(operator) if !url.contains("tls_ca=") => Ok(operator),
        _ => Ok(url),
    }
}

fn failed(cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, "test", format!("{cause}"))
}

async fn server(verb: &str) -> Result<()> {
    let name = format!("INTERLINE_NATS_{verb}");
    let command = env::var(&name).map_err(|_| missing(&name))?;
    let run = move || Command::new("sh").arg("-c").arg(command).output();
    match tokio::task::spawn_blocking(run).await.map_err(failed)? {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(failed(String::from_utf8_lossy(&output.stderr))),
        Err(cause) => Err(failed(cause)),
    }
}

/// Writes by the bare protocol, since client libraries refuse most of what the suite makes up.
async fn write(foreign: Foreign) -> Result<()> {
    let url = url()?;
    let write = move || write_raw(&url, &foreign);
    let written = tokio::task::spawn_blocking(write).await.map_err(failed)?;
    written.map_err(failed)?
}

/// One message to the first partition, as one writes who knows only the subject. NATS has no
/// keys; one that is no text is written as the documentation of this transport says.
fn write_raw(url: &str, foreign: &Foreign) -> std::io::Result<Result<()>> {
    let url = url.trim_start_matches("nats://");
    let (place, settings) = url.split_once('?').unwrap_or((url, ""));
    let (login, address) = place.rsplit_once('@').unwrap_or(("", place));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let namespace = settings
        .split('&')
        .find_map(|s| s.strip_prefix("namespace="));
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut block = b"NATS/1.0\r\n".to_vec();
    let key = foreign.key.iter().map(|key| {
        let text = STANDARD_NO_PAD.encode(key);
        ("interline-key".to_owned(), text.into())
    });
    for (name, value) in foreign.headers.iter().cloned().chain(key) {
        block.extend_from_slice(name.as_bytes());
        block.extend_from_slice(b": ");
        block.extend_from_slice(&value);
        block.extend_from_slice(b"\r\n");
    }
    block.extend_from_slice(b"\r\n");
    let payload = foreign.payload.clone().unwrap_or_default();
    let subject = format!("{}.0", foreign.topic.as_str().replace('.', "="));
    let subject = namespace.map_or(subject.clone(), |n| format!("{n}.{subject}"));
    write!(
        stream,
        "CONNECT {{\"verbose\":false,\"headers\":true,\"no_responders\":true,\
         \"user\":\"{user}\",\"pass\":\"{password}\"}}\r\n\
         SUB _INBOX.answer 1\r\nHPUB {subject} _INBOX.answer {} {}\r\n",
        block.len(),
        block.len() + payload.len()
    )?;
    stream.write_all(&block)?;
    stream.write_all(&payload)?;
    stream.write_all(b"\r\n")?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.starts_with("MSG ") || line.starts_with("HMSG ") {
            let length = line.split_whitespace().last().and_then(|n| n.parse().ok());
            let mut answer = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut answer)?;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let is_stored = answer.contains("\"seq\"");
            return Ok(if is_stored {
                Ok(())
            } else {
                Err(failed(answer))
            });
        }
        if line.is_empty() || line.starts_with("-ERR") {
            return Ok(Err(failed(line)));
        }
    }
}
