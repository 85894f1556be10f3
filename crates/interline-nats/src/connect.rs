//! Connecting, and telling why it did not work.

use std::error::Error as StdError;

use async_nats::{ConnectError, ConnectErrorKind};
use interline_core::{Error, ErrorKind, Result};

use crate::config::{Config, Resolved};
use crate::durability;
use crate::error::error;
use crate::hub::Hub;
use crate::link::{Session, Settings, dial_any};
use crate::{SCHEME, Transport};

/// The oldest server that knows all that is used: metadata of streams, consumers with a filter
/// in the subject of their making.
const OLDEST: (u32, u32) = (2, 10);

/// Connects to a server. It returns once one has answered, with the credentials given.
///
/// # Errors
/// [`Config`](ErrorKind::Config) for a bad setting, a server without JetStream or less durable
/// than required; [`Unsupported`](ErrorKind::Unsupported) for a server older than 2.10;
/// [`Denied`](ErrorKind::Denied) for refused credentials or certificates;
/// [`Unavailable`](ErrorKind::Unavailable) if none answers, saying which of the usual reasons it
/// is.
///
/// # Cancellation
/// A dropped call leaves nothing behind.
pub async fn connect<C>(config: C) -> Result<Transport>
where
    C: TryInto<Config>,
    Error: From<C::Error>,
{
    let resolved = config.try_into()?.resolve()?;
    let settings = Settings::new(resolved).map_err(|error| error.on(SCHEME))?;
    let resolved = &settings.resolved;
    if !resolved.is_tls && resolved.config.shared.tls.insecure {
        tracing::warn!(
            target: "interline::nats",
            place = resolved.place,
            "the connection is not encrypted (`insecure=1`)"
        );
    }
    let session = dial_any(&settings).await?;
    check_version(resolved, &session)?;
    check_jetstream(resolved, &session).await?;
    let syncs = durability::of_server(resolved).await?;
    let hub = Hub::new(settings, session, syncs)?;
    Ok(Transport::new(hub))
}

fn check_version(resolved: &Resolved, session: &Session) -> Result<()> {
    let version = session.version();
    if version.is_some_and(|version| version >= OLDEST) {
        return Ok(());
    }
    let (place, version) = (&resolved.place, session.info.version.escape_debug());
    Err(error(
        ErrorKind::Unsupported,
        "connect",
        format!("the server at `{place}` has version {version}, and 2.10 is the oldest usable one"),
        "update nats-server to 2.10 or later",
    ))
}

/// Whether JetStream answers at all. That it may not be asked is no sign against it.
async fn check_jetstream(resolved: &Resolved, session: &Session) -> Result<()> {
    if session.info.jetstream {
        return Ok(());
    }
    let answer = session
        .ask::<crate::api::Done>("connect", "INFO", &())
        .await;
    match answer.map_err(|failed| failed.error("connect")) {
        Err(failed) if failed.kind() != ErrorKind::Denied => {
            let place = &resolved.place;
            Err(error(
                ErrorKind::Config,
                "connect",
                format!("`{place}` has no JetStream for this account"),
                "start the server with `-js`, and give the account limits for JetStream",
            )
            .because(failed))
        }
        _ => Ok(()),
    }
}

/// What some words of the client's library mean.
struct Sign {
    words: &'static str,
    kind: ErrorKind,
    what: &'static str,
    remedy: &'static str,
}

/// From the most telling to the least.
const SIGNS: [Sign; 9] = [
    Sign {
        words: "certificate required",
        kind: ErrorKind::Denied,
        what: "wants a client certificate",
        remedy: "set `tls_cert` and `tls_key`",
    },
    Sign {
        words: "unknownissuer",
        kind: ErrorKind::Denied,
        what: "has a certificate of an authority that is not trusted",
        remedy: "set `tls_ca=FILE` to the authority that signed it",
    },
    Sign {
        words: "not valid for name",
        kind: ErrorKind::Denied,
        what: "has a certificate for another host name",
        remedy: "connect by a name that the certificate holds",
    },
    Sign {
        words: "expired",
        kind: ErrorKind::Denied,
        what: "has an expired certificate, or the credentials have expired",
        remedy: "renew them, and check the clock of this machine",
    },
    Sign {
        words: "invalidcontenttype",
        kind: ErrorKind::Config,
        what: "does not speak TLS at this port",
        remedy: "use the port of its TLS listener, or remove `tls=on`",
    },
    Sign {
        words: "maximum connections exceeded",
        kind: ErrorKind::Unavailable,
        what: "takes no more connections",
        remedy: "raise max_connections of the server or the account",
    },
    Sign {
        words: "connection refused",
        kind: ErrorKind::Unavailable,
        what: "refuses connections: nothing listens there",
        remedy: "start the server, or check host and port",
    },
    Sign {
        words: "expected info",
        kind: ErrorKind::Unavailable,
        what: "does not greet as a NATS server does",
        remedy: "check that a NATS server listens there, and `tls`",
    },
    Sign {
        words: "certificate",
        kind: ErrorKind::Denied,
        what: "has a certificate that is not accepted, or does not accept ours",
        remedy: "check `tls_ca`, `tls_cert` and `tls_key`",
    },
];

/// Why a server could not be connected to.
pub(crate) fn explain(resolved: &Resolved, endpoint: &str, cause: ConnectError) -> Error {
    let place = endpoint.escape_debug().to_string();
    let said = chain(&cause);
    let (kind, what, remedy) = match cause.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => (
            ErrorKind::Denied,
            "refuses the login",
            "check user and password, token, `credentials` or `nkey`",
        ),
        ConnectErrorKind::Dns => (
            ErrorKind::Unavailable,
            "has a host name that is not known",
            "check the host names",
        ),
        ConnectErrorKind::TimedOut => (
            ErrorKind::Unavailable,
            "did not answer in time",
            "check host, port and firewalls",
        ),
        _ => match SIGNS.iter().find(|sign| said.contains(sign.words)) {
            Some(sign) if sign.words == "unknownissuer" && !resolved.is_tls => (
                ErrorKind::Config,
                "wants TLS",
                "set `tls=on` (and `tls_ca=FILE` for an authority of your own)",
            ),
            Some(sign) => (sign.kind, sign.what, sign.remedy),
            None => (
                ErrorKind::Unavailable,
                "closes the connection",
                "check that a NATS server listens there",
            ),
        },
    };
    error(kind, "connect", format!("`{place}` {what}"), remedy).because(cause)
}

/// Everything that an error and its causes say, in lower case.
fn chain(error: &dyn StdError) -> String {
    let mut said = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        said.push_str(&error.to_string().to_ascii_lowercase());
        said.push('\n');
        next = error.source();
    }
    said
}
