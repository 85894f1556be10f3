//! Connecting.

use interline_core::{Error, Result};

use crate::config::Config;
use crate::server::Server;
use crate::transport::Transport;

/// Connects to the server that `config`, a URL or a [`Config`], names, and asks it what it
/// promises.
///
/// # Errors
/// [`Config`](interline_core::ErrorKind::Config) for a malformed setting, and for a server whose
/// settings would lose events that the profile wants kept;
/// [`Unsupported`](interline_core::ErrorKind::Unsupported) for a server before 7.0, a replica or
/// a node of a cluster; [`Denied`](interline_core::ErrorKind::Denied) for a wrong password;
/// [`Unavailable`](interline_core::ErrorKind::Unavailable) and
/// [`Timeout`](interline_core::ErrorKind::Timeout) if it does not answer. No error holds a secret.
///
/// # Cancellation
/// A dropped call leaves nothing behind.
pub async fn connect<C>(config: C) -> Result<Transport>
where
    C: TryInto<Config>,
    Error: From<C::Error>,
{
    let resolved = config.try_into()?.resolve()?;
    Ok(Transport::new(Server::open(resolved).await?))
}
