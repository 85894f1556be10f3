//! Connecting, and telling why it did not work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use interline_core::{Capabilities, Dedupe, Durability, Error, ErrorKind, LagAccuracy, Result};

use crate::cluster::Cluster;
use crate::config::{Config, Resolved};
use crate::monitor::{Monitor, Watch};
use crate::token::Tokens;
use crate::{SCHEME, Transport, error};

/// How long one try may hide what librdkafka says meanwhile.
const SLICE: Duration = Duration::from_millis(250);

/// The largest payload: what remains of a broker's 1 MiB for a batch after 64 KiB for key,
/// headers and framing.
const MAX_PAYLOAD: usize = (1 << 20) - (64 << 10);

/// Connects to a cluster. It returns once a broker has answered, with the credentials given.
///
/// # Errors
/// [`Config`](ErrorKind::Config) for a bad setting or a cluster less durable than required;
/// [`Denied`](ErrorKind::Denied) for refused credentials or certificates;
/// [`Unavailable`](ErrorKind::Unavailable) if no broker answers within
/// [`request_timeout`](Config::request_timeout), saying which of the usual reasons it is.
///
/// # Cancellation
/// A dropped call leaves nothing behind.
pub async fn connect<C>(config: C) -> Result<Transport>
where
    C: TryInto<Config>,
    Error: From<C::Error>,
{
    let resolved = config.try_into()?.resolve()?;
    let deadline = resolved.config.request_timeout;
    tokio::task::spawn_blocking(move || open(resolved, deadline))
        .await
        .map_err(|cause| error::closed("connect").because(cause))?
}

fn open(resolved: Resolved, deadline: Duration) -> Result<Transport> {
    let end = Instant::now() + deadline;
    let tokens = match resolved.config.token.clone() {
        Some(source) => Some(Tokens::start(source, deadline)?),
        None => None,
    };
    let monitor = Arc::new(Monitor::default());
    if !resolved.is_tls && resolved.config.shared.tls.insecure {
        tracing::warn!(
            target: "interline::kafka",
            place = resolved.place,
            "the connection is not encrypted (`insecure=1`)"
        );
    }
    let watch = Watch { monitor, tokens };
    let cluster = Cluster::new(resolved, watch)?;
    match greet(&cluster, end) {
        Ok(brokers) => {
            let capabilities = capabilities(&cluster, brokers)?;
            Ok(Transport::new(cluster, capabilities))
        }
        Err(error) => {
            cluster.close();
            Err(error)
        }
    }
}

/// Waits for a first answer; the number of brokers.
fn greet(cluster: &Cluster, end: Instant) -> Result<usize> {
    loop {
        let answer = cluster.metadata_within("connect", None, SLICE);
        if let Ok(metadata) = answer {
            cluster.monitor().healthy();
            return Ok(metadata.brokers().len());
        }
        let lines = cluster.monitor().lines();
        let late = Instant::now() >= end;
        match diagnose(&lines, &cluster.resolved) {
            // Another broker may still answer, unless the reason is the same for all of them.
            Some(diagnosis) if late || diagnosis.kind() != ErrorKind::Unavailable => {
                return Err(diagnosis);
            }
            None if late => return Err(silent(&cluster.resolved)),
            _ => {}
        }
    }
}

fn capabilities(cluster: &Cluster, brokers: usize) -> Result<Capabilities> {
    let resolved = &cluster.resolved;
    // Topics differ: each is looked at when it is first published to.
    let durability = match brokers {
        0 | 1 => Durability::Process,
        _ => Durability::Quorum,
    };
    if durability < resolved.min_durability {
        cluster.close();
        let (place, wants) = (&resolved.place, resolved.min_durability);
        return Err(error::error(
            ErrorKind::Config,
            "connect",
            format!(
                "`{place}` has {brokers} broker, which gives {durability}, and {wants} is required"
            ),
            format!("add brokers, or accept less with `min_durability={durability}`"),
        ));
    }
    let mut capabilities = Capabilities::new(SCHEME);
    capabilities.durability = durability;
    capabilities.durability_verified = true;
    capabilities.dedupe = Dedupe::Session;
    capabilities.max_payload = MAX_PAYLOAD;
    capabilities.persistent = true;
    capabilities.start_at_time = true;
    capabilities.manage_topics = true;
    capabilities.foreign_writers = true;
    capabilities.lag = LagAccuracy::UpperBound;
    Ok(capabilities)
}

/// What the words of librdkafka mean, from the most telling to the least.
const SIGNS: [(&str, ErrorKind, &str, &str); 14] = [
    (
        "authentication failed",
        ErrorKind::Denied,
        "refuses the user or the password",
        "check both, and that `sasl` names the mechanism of this user",
    ),
    (
        "SASL authentication error",
        ErrorKind::Denied,
        "refuses the user or the password",
        "check both, and that `sasl` names the mechanism of this user",
    ),
    (
        "Unsupported SASL mechanism",
        ErrorKind::Denied,
        "does not offer this SASL mechanism",
        "set `sasl` to one that the listener offers",
    ),
    (
        "hostname mismatch",
        ErrorKind::Denied,
        "has a certificate for another host name",
        "connect by a name that the certificate holds",
    ),
    (
        "IP address mismatch",
        ErrorKind::Denied,
        "has a certificate for another host name",
        "connect by a name that the certificate holds",
    ),
    (
        "certificate verify failed",
        ErrorKind::Denied,
        "has a certificate of an authority that is not trusted",
        "set `tls_ca=FILE` to the authority that signed it",
    ),
    (
        "certificate required",
        ErrorKind::Denied,
        "wants a client certificate",
        "set `tls_cert` and `tls_key`",
    ),
    (
        "wrong version number",
        ErrorKind::Denied,
        "does not speak TLS at this port",
        "use the port of its TLS listener, or remove `tls=on`",
    ),
    (
        "connecting to a PLAINTEXT broker listener",
        ErrorKind::Denied,
        "does not speak TLS at this port",
        "use the port of its TLS listener, or remove `tls=on`",
    ),
    (
        "connecting to a SSL listener",
        ErrorKind::Denied,
        "wants TLS, or a login, at this port",
        "set `tls=on`, and a user and password if it wants a login",
    ),
    (
        "Failed to resolve",
        ErrorKind::Unavailable,
        "has a host name that is not known",
        "check the host names",
    ),
    (
        "Connection refused",
        ErrorKind::Unavailable,
        "refuses connections: nothing listens there",
        "start the broker, or check host and port",
    ),
    (
        "timed out",
        ErrorKind::Unavailable,
        "does not answer",
        "check host, port and firewalls",
    ),
    (
        "Disconnected",
        ErrorKind::Unavailable,
        "closes the connection at once",
        "check that a Kafka broker listens there, and whether it wants TLS or a login",
    ),
];

fn diagnose(lines: &[String], resolved: &Resolved) -> Option<Error> {
    let mut signs = SIGNS.iter();
    let (sign, kind, what, remedy) = signs.find(|(sign, ..)| {
        let mut lines = lines.iter();
        lines.any(|line| line.contains(sign))
    })?;
    let place = &resolved.place;
    let said = lines.iter().rev().find(|line| line.contains(sign)).cloned();
    let error = error::error(*kind, "connect", format!("`{place}` {what}"), *remedy);
    Some(error.because(said.unwrap_or_default()))
}

fn silent(resolved: &Resolved) -> Error {
    let seconds = resolved.config.request_timeout.as_secs_f32();
    error::error(
        ErrorKind::Unavailable,
        "connect",
        format!("`{}` did not answer within {seconds} s", resolved.place),
        "check host, port and firewalls",
    )
}

#[cfg(test)]
mod tests;
