//! Connections: the only module that makes clients of the driver.
//!
//! The driver's own settings are chosen here once. It never resends a request by itself: whether
//! that is safe is known to the caller alone. Requests have a time limit; so many may be on their
//! way, and others wait. A server that hangs is noticed by the answer that does not come. The
//! driver's configuration would show the password if it were printed, so it never leaves this
//! module.

use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::config::{
    ConnectionConfig, PerformanceConfig, ReconnectPolicy, Server, ServerConfig, UnresponsiveConfig,
};
use fred::types::{ClusterHash, ConnectHandle, CustomCommand, Resp3Frame, Value};
use interline_core::{ErrorKind, Result, State};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::config::Resolved;
use crate::error::{self, error};
use crate::health::{self, Health};
use crate::reply::checked;
use crate::scripts::Script;
use crate::tls;

/// How many requests of one connection may be on their way.
const ON_THE_WAY: usize = 4_096;

/// How long the server holds a blocking read that finds nothing.
pub(crate) const BLOCK: Duration = Duration::from_secs(1);

/// How long the server waits for its disk before it says that nothing is synced.
pub(crate) const SYNC: Duration = Duration::from_secs(5);

/// A connection of its own, closed when it is dropped.
pub(crate) struct Link {
    client: Client,
    /// The driver's own bound refuses what is beyond it; here it waits.
    room: Semaphore,
    health: watch::Receiver<Health>,
    tasks: Tasks,
}

/// What serves a connection; ends with it.
struct Tasks {
    driver: ConnectHandle,
    health: JoinHandle<()>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.driver.abort();
        self.health.abort();
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Requests that are answered at once.
    Requests,
    /// Reads that wait at the server; nothing else may stand behind them.
    Reading,
    /// Waits for the server's disk.
    Syncing,
}

impl Link {
    /// Connects. A server that is still loading its data is waited for.
    pub(crate) async fn open(resolved: &Resolved, purpose: Use) -> Result<Self> {
        let until = Instant::now() + resolved.config.request_timeout;
        loop {
            match Self::open_once(resolved, purpose).await {
                Err(failed) if failed.message().starts_with("LOADING") => {
                    let again = Instant::now() + Duration::from_millis(100);
                    if again > until {
                        return Err(failed);
                    }
                    tokio::time::sleep_until(again).await;
                }
                done => return done,
            }
        }
    }

    async fn open_once(resolved: &Resolved, purpose: Use) -> Result<Self> {
        let limit = resolved.config.request_timeout;
        let client = client(resolved, purpose)?;
        let (health, following) = health::watch(&client);
        let following = tokio::spawn(following);
        let opened = timeout_at(Instant::now() + limit, client.init()).await;
        let driver = match opened {
            Ok(Ok(driver)) => driver,
            Ok(Err(cause)) => {
                following.abort();
                return Err(error::client("connect", &cause));
            }
            Err(_) => {
                following.abort();
                return Err(error(
                    ErrorKind::Timeout,
                    "connect",
                    format!("`{}` does not answer within {limit:?}", resolved.place),
                    "check the address, the firewall and whether the server wants TLS",
                ));
            }
        };
        let tasks = Tasks {
            driver,
            health: following,
        };
        let link = Self {
            client,
            room: Semaphore::new(ON_THE_WAY),
            health,
            tasks,
        };
        link.up().await;
        Ok(link)
    }

    /// Sends a request, once there is room for it on the way, and waits for its answer.
    ///
    /// # Errors
    /// Ambiguous if no answer came; otherwise it was not carried out.
    pub(crate) async fn call(
        &self,
        operation: &'static str,
        command: &'static str,
        args: Vec<Value>,
    ) -> Result<Resp3Frame> {
        let blocks = matches!(command, "XREAD" | "WAITAOF");
        // Where there is no cluster the slot is nobody's concern.
        let command = CustomCommand::new_static(command, ClusterHash::FirstKey, blocks);
        let _place = self.room.acquire().await;
        match self.client.custom_raw(command, args).await {
            Ok(frame) => checked(operation, frame),
            Err(cause) => Err(error::client(operation, &cause)),
        }
    }

    /// Runs a script, sending its text if the server does not have it (any more).
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub(crate) async fn run(
        &self,
        operation: &'static str,
        script: &Script,
        keys: &[bytes::Bytes],
        args: Vec<Value>,
    ) -> Result<Resp3Frame> {
        let mut all = script.head(keys);
        all.extend(args);
        let text = script.text();
        let mut again = all.clone();
        match self.call(operation, "EVALSHA", all).await {
            Err(unknown) if unknown.message().starts_with("NOSCRIPT") => {
                again[0] = Value::from_static_str(text);
                self.call(operation, "EVAL", again).await
            }
            done => done,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.health.borrow().is_up() && !self.tasks.driver.is_finished()
    }

    /// How often the connection came up.
    pub(crate) fn connects(&self) -> u64 {
        self.health.borrow().connects
    }

    pub(crate) fn state(&self) -> State {
        self.health.borrow().state()
    }

    /// Follows the connection.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// Waits until the connection is up.
    pub(crate) async fn up(&self) {
        let mut health = self.health.clone();
        // The sender lives as long as this connection.
        let _ = health.wait_for(Health::is_up).await;
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("up", &self.is_up())
            .finish_non_exhaustive()
    }
}

fn client(resolved: &Resolved, purpose: Use) -> Result<Client> {
    let margin = resolved.config.request_timeout.min(Duration::from_secs(5));
    let limit = match purpose {
        Use::Requests => resolved.config.request_timeout,
        Use::Reading => BLOCK + margin,
        Use::Syncing => SYNC + margin,
    };
    let password = resolved.config.password.as_ref();
    let config = fred::types::config::Config {
        fail_fast: true,
        username: resolved.config.user.clone(),
        password: password.map(|password| password.reveal().to_owned()),
        server: ServerConfig::Centralized {
            server: Server::new(resolved.host.clone(), resolved.port),
        },
        database: (resolved.database != 0).then_some(resolved.database),
        tls: match resolved.is_tls {
            true => Some(tls::connector(&resolved.config.shared.tls)?),
            false => None,
        },
        ..Default::default()
    };
    let performance = PerformanceConfig {
        default_command_timeout: limit,
        ..Default::default()
    };
    let connection = ConnectionConfig {
        connection_timeout: resolved.config.request_timeout,
        internal_command_timeout: resolved.config.request_timeout,
        max_command_attempts: 1,
        unresponsive: UnresponsiveConfig {
            max_timeout: Some(limit),
            interval: Duration::from_secs(1),
        },
        ..Default::default()
    };
    let mut policy = ReconnectPolicy::new_exponential(0, 10, 1_000, 2);
    // Many clients of a server that comes back do not march in step, and few wait for nothing.
    policy.set_jitter(20);
    Ok(Client::new(
        config,
        Some(performance),
        Some(connection),
        Some(policy),
    ))
}
