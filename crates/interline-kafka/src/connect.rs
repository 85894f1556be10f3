//! Connecting, and telling why it did not work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use interline_core::{Capabilities, Dedupe, Durability, Error, ErrorKind, LagAccuracy, Result};

use rdkafka::producer::{BaseProducer, Producer};

use crate::cluster::Cluster;
use crate::config::{Config, Resolved};
use crate::monitor::{Monitor, Watch};
use crate::token::Tokens;
use crate::{SCHEME, Transport, error};

/// How long one try may hide what librdkafka says meanwhile.
const SLICE: Duration = Duration::from_millis(250);

/// How long the handshake that tells a wrong name from a wrong authority may take.
const HANDSHAKE: Duration = Duration::from_secs(1);

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
        match diagnose(&lines) {
            Some(sign) if late || sign.is_final => {
                return Err(explain(sign, &lines, &cluster.resolved));
            }
            None if late => return Err(silent(&cluster.resolved)),
            _ => {}
        }
    }
}

fn capabilities(cluster: &Cluster, brokers: usize) -> Result<Capabilities> {
    let resolved = &cluster.resolved;
    let capabilities = declared(brokers);
    let durability = capabilities.durability;
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
    Ok(capabilities)
}

/// What this transport declares on a cluster of so many brokers.
#[must_use]
pub fn declared(brokers: usize) -> Capabilities {
    let mut capabilities = Capabilities::new(SCHEME);
    // Topics differ: each is looked at when it is first published to.
    capabilities.durability = match brokers {
        0 | 1 => Durability::Process,
        _ => Durability::Quorum,
    };
    capabilities.durability_verified = true;
    capabilities.dedupe = Dedupe::Session;
    capabilities.max_payload = MAX_PAYLOAD;
    capabilities.persistent = true;
    capabilities.start_at_time = true;
    capabilities.manage_topics = true;
    capabilities.foreign_writers = true;
    capabilities.lag = LagAccuracy::UpperBound;
    capabilities
}

/// What some words of librdkafka mean.
struct Sign {
    words: &'static str,
    what: &'static str,
    remedy: &'static str,
    /// Waiting longer, or for another broker, will not help.
    is_final: bool,
}

/// From the most telling to the least.
const SIGNS: [Sign; 13] = [
    Sign {
        words: "Request not valid in current SASL state",
        what: "wants no login at this port",
        remedy: "use the port of its SASL listener, or remove user, password and `sasl`",
        is_final: true,
    },
    Sign {
        words: "Unsupported SASL mechanism",
        what: "does not offer this SASL mechanism",
        remedy: "set `sasl` to one that the listener offers",
        is_final: true,
    },
    Sign {
        words: "SASL authentication error",
        what: "refuses the user, password or token",
        remedy: "check them, and that `sasl` names the mechanism of this user",
        is_final: true,
    },
    Sign {
        words: CERTIFICATE,
        what: "has a certificate of an authority that is not trusted",
        remedy: "set `tls_ca=FILE` to the authority that signed it",
        is_final: true,
    },
    Sign {
        words: "certificate required",
        what: WANTS_CERTIFICATE,
        remedy: SET_CERTIFICATE,
        is_final: true,
    },
    Sign {
        words: BAD_CERTIFICATE,
        what: "refuses the client certificate",
        remedy: "set `tls_cert` and `tls_key` to a pair that it trusts",
        is_final: true,
    },
    Sign {
        words: "wrong version number",
        what: NO_TLS,
        remedy: USE_TLS_PORT,
        is_final: true,
    },
    Sign {
        words: "connecting to a PLAINTEXT broker listener",
        what: NO_TLS,
        remedy: USE_TLS_PORT,
        is_final: true,
    },
    Sign {
        words: "in state APIVERSION_QUERY",
        what: "seems to want TLS at this port",
        remedy: "set `tls=on` (and `tls_ca=FILE` for an authority of your own)",
        is_final: false,
    },
    Sign {
        words: "in state UP",
        what: "seems to want a login at this port",
        remedy: "write `user:password@` before the host, and `sasl` if it is not SCRAM-SHA-256",
        is_final: false,
    },
    Sign {
        words: "Failed to resolve",
        what: "has a host name that is not known",
        remedy: "check the host names",
        is_final: false,
    },
    Sign {
        words: "Connection refused",
        what: "refuses connections: nothing listens there",
        remedy: "start the broker, or check host and port",
        is_final: false,
    },
    Sign {
        words: "Disconnected",
        what: "closes the connection",
        remedy: "check that a Kafka broker listens there",
        is_final: false,
    },
];

const CERTIFICATE: &str = "certificate verify failed";
const BAD_CERTIFICATE: &str = "bad certificate";
const WANTS_CERTIFICATE: &str = "wants a client certificate";
const SET_CERTIFICATE: &str = "set `tls_cert` and `tls_key`";
const NO_TLS: &str = "does not speak TLS at this port";
const USE_TLS_PORT: &str = "use the port of its TLS listener, or remove `tls=on`";

/// What went wrong, as far as librdkafka's words tell.
fn diagnose(lines: &[String]) -> Option<&'static Sign> {
    let said = |sign: &&Sign| lines.iter().any(|line| line.contains(sign.words));
    SIGNS.iter().find(said)
}

fn explain(sign: &Sign, lines: &[String], resolved: &Resolved) -> Error {
    let place = &resolved.place;
    let said = lines
        .iter()
        .rev()
        .find(|line| line.contains(sign.words))
        .cloned();
    let (what, remedy) = match sign.words {
        CERTIFICATE if is_other_name(resolved) => (
            "has a certificate for another host name",
            "connect by a name that the certificate holds",
        ),
        // Brokers say so of a missing one too.
        BAD_CERTIFICATE if resolved.config.shared.tls.cert.is_none() => {
            (WANTS_CERTIFICATE, SET_CERTIFICATE)
        }
        _ => (sign.what, sign.remedy),
    };
    let kind = if sign.is_final {
        ErrorKind::Denied
    } else {
        ErrorKind::Unavailable
    };
    error::error(kind, "connect", format!("`{place}` {what}"), remedy)
        .because(said.unwrap_or_default())
}

/// Whether a certificate that was refused would pass if its host name did not count. librdkafka
/// says the same of both mistakes, so the handshake is made again, without sending credentials.
fn is_other_name(resolved: &Resolved) -> bool {
    let mut config = resolved.client();
    for name in ["sasl.mechanism", "sasl.username", "sasl.password"] {
        config.remove(name);
    }
    config
        .set("security.protocol", "ssl")
        .set("ssl.endpoint.identification.algorithm", "none");
    let watch = Watch {
        monitor: Arc::default(),
        tokens: None,
    };
    let Ok(client) = config.create_with_context::<_, BaseProducer<Watch>>(watch.clone()) else {
        return false;
    };
    let end = Instant::now() + HANDSHAKE;
    while Instant::now() < end {
        let is_served = client.client().fetch_metadata(None, SLICE).is_ok();
        client.poll(Duration::ZERO);
        let lines = watch.monitor.lines();
        if lines.iter().any(|line| line.contains(CERTIFICATE)) {
            return false;
        }
        if is_served || !lines.is_empty() {
            return true;
        }
    }
    // It was refused at once before, and is not any more.
    true
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
