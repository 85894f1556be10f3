//! Connections. One that breaks is never resumed: what was on its way in it is lost for certain,
//! and a new one begins with nothing.
//!
//! The client library resumes by itself: it would send what it has queued before whoever queued
//! it can send again what came before that, and records would come to readings that have not
//! noticed the gap. So each of its clients is used for one connection only.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::rustls::ClientConfig;
use async_nats::{AuthError, Client, ConnectError, ConnectOptions, Event, ServerError, ServerInfo};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use interline_core::{Error, Result};
use tokio::sync::{broadcast, watch};

use crate::config::Resolved;
use crate::connect::explain;
use crate::error::closed;
use crate::monitor::Monitor;

/// How often a silent server is asked whether it is there; after three silences it is gone, which
/// is before an owner that cannot renew its leases gives up.
const PING: Duration = Duration::from_secs(2);

/// How many messages to the server may wait in the client. More than a publisher and a reading
/// ever have on their way, so that handing one over never waits.
const CAPACITY: usize = 16 << 10;

/// What all connections of a transport share.
pub(crate) struct Settings {
    pub(crate) resolved: Resolved,
    pub(crate) tls: ClientConfig,
    pub(crate) monitor: Monitor,
    closed: watch::Sender<bool>,
}

impl Settings {
    pub(crate) fn new(resolved: Resolved) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            tls: resolved.tls()?,
            resolved,
            monitor: Monitor::default(),
            closed: watch::Sender::new(false),
        }))
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Waits until the transport is closed.
    pub(crate) async fn closed(&self) {
        // The sender is this very struct, so the wait can only end well.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("place", &self.resolved.place)
            .finish_non_exhaustive()
    }
}

/// One connection, until it breaks.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) info: Arc<ServerInfo>,
    signals: Arc<Signals>,
}

/// What the server says beside its answers.
struct Signals {
    dead: watch::Sender<bool>,
    /// Permissions that are missing, in the server's words.
    denied: broadcast::Sender<Arc<str>>,
}

impl Session {
    /// Waits until the connection is broken.
    pub(crate) async fn died(&self) {
        // The sender lives as long as this handle.
        let _ = self.signals.dead.subscribe().wait_for(|dead| *dead).await;
    }

    pub(crate) fn is_dead(&self) -> bool {
        *self.signals.dead.borrow()
    }

    /// From now on, what the server forbids on this connection.
    pub(crate) fn denials(&self) -> broadcast::Receiver<Arc<str>> {
        self.signals.denied.subscribe()
    }

    /// The server's version, as numbers.
    pub(crate) fn version(&self) -> Option<(u32, u32)> {
        let mut parts = self.info.version.split(['.', '-']);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("server", &self.info.server_name)
            .field("dead", &self.is_dead())
            .finish_non_exhaustive()
    }
}

impl Signals {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            dead: watch::Sender::new(false),
            denied: broadcast::Sender::new(64),
        })
    }

    fn take(&self, event: &Event) {
        match event {
            Event::Disconnected | Event::Closed => {
                self.dead.send_replace(true);
            }
            Event::ServerError(error) => {
                let said = match error {
                    ServerError::Other(said) => said.clone(),
                    other => other.to_string(),
                };
                if said.to_ascii_lowercase().contains("permissions violation") {
                    // Nobody may be waiting for an answer just now.
                    let _ = self.denied.send(said.as_str().into());
                }
                tracing::warn!(target: "interline::nats", said, "the server complains");
            }
            _ => {}
        }
    }
}

/// Connects to one server.
async fn dial(settings: &Settings, endpoint: &str) -> Result<Session, ConnectError> {
    let signals = Signals::new();
    let is_used = Arc::new(AtomicBool::new(false));
    let (login, used) = (settings.resolved.login.clone(), Arc::clone(&is_used));
    let config = &settings.resolved.config;
    let heard = Arc::clone(&signals);
    // The library has no switch against resuming: its second login is refused here instead.
    let mut options = ConnectOptions::with_auth_callback(move |challenge| {
        std::future::ready(if used.load(Ordering::Acquire) {
            Err(AuthError::new("a connection is not resumed"))
        } else {
            login.answer(&challenge)
        })
    })
    .max_reconnects(1)
    .event_callback(move |event| {
        heard.take(&event);
        std::future::ready(())
    })
    .name("interline")
    .require_tls(settings.resolved.is_tls)
    .tls_client_config(settings.tls.clone())
    // Whom to trust is said by the configuration, not by a server.
    .ignore_discovered_servers()
    .ping_interval(PING)
    .connection_timeout(config.request_timeout)
    .request_timeout(Some(config.request_timeout))
    .client_capacity(CAPACITY);
    if let Some(prefix) = &config.inbox_prefix {
        options = options.custom_inbox_prefix(prefix);
    }
    let client = options.connect(format!("nats://{endpoint}")).await?;
    is_used.store(true, Ordering::Release);
    Ok(Session {
        info: Arc::new(client.server_info()),
        client,
        signals,
    })
}

/// Connects to the first server that answers.
///
/// # Errors
/// Why the last one did not.
pub(crate) async fn dial_any(settings: &Settings) -> Result<Session> {
    let mut endpoints: Vec<&String> = settings.resolved.endpoints.iter().collect();
    fastrand::shuffle(&mut endpoints);
    let mut failed = closed("connect");
    for endpoint in endpoints {
        match dial(settings, endpoint).await {
            Ok(session) => return Ok(session),
            Err(cause) => failed = explain(&settings.resolved, endpoint, cause),
        }
    }
    Err(failed)
}

/// A connection that is made anew whenever it breaks.
pub(crate) struct Link {
    settings: Arc<Settings>,
    current: watch::Receiver<Option<Session>>,
}

impl Link {
    /// Keeps a link up until it is dropped or the transport is closed; `first` is used if given.
    pub(crate) fn start(
        name: &'static str,
        settings: &Arc<Settings>,
        first: Option<Session>,
    ) -> Arc<Self> {
        let (sender, current) = watch::channel(first.clone());
        tokio::spawn(supervise(name, Arc::clone(settings), first, sender));
        Arc::new(Self {
            settings: Arc::clone(settings),
            current,
        })
    }

    /// The connection of now, waited for if there is none.
    ///
    /// # Errors
    /// When the transport was closed.
    pub(crate) async fn session(&self, operation: &'static str) -> Result<Session> {
        let mut current = self.current.clone();
        let live = |session: &Option<Session>| session.as_ref().is_some_and(|s| !s.is_dead());
        tokio::select! {
            biased;
            () = self.settings.closed() => Err(closed(operation)),
            found = current.wait_for(live) => {
                let found = found.ok().and_then(|session| session.clone());
                found.ok_or_else(|| closed(operation))
            }
        }
    }

    /// The connection of now, if there is one.
    pub(crate) fn now(&self) -> Option<Session> {
        let session = self.current.borrow().clone();
        session.filter(|session| !session.is_dead())
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("session", &*self.current.borrow())
            .finish_non_exhaustive()
    }
}

async fn supervise(
    name: &'static str,
    settings: Arc<Settings>,
    mut first: Option<Session>,
    current: watch::Sender<Option<Session>>,
) {
    let ended = async {
        tokio::select! {
            () = settings.closed() => {}
            () = current.closed() => {}
        }
    };
    let working = async {
        loop {
            let session = match first.take() {
                Some(session) => session,
                None => redial(name, &settings).await,
            };
            settings.monitor.healthy(name);
            current.send_replace(Some(session.clone()));
            session.died().await;
            current.send_replace(None);
            settings
                .monitor
                .trouble(name, "the server closed the connection");
        }
    };
    tokio::select! {
        () = ended => {}
        () = working => {}
    }
    current.send_replace(None);
    settings.monitor.healthy(name);
}

/// Tries until a server answers.
async fn redial(name: &'static str, settings: &Settings) -> Session {
    let mut waits = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_secs(1))
        .without_max_times()
        .with_jitter()
        .build();
    loop {
        match dial_any(settings).await {
            Ok(session) => return session,
            Err(error) => {
                let error: Error = error;
                settings.monitor.trouble(name, &error.to_string());
                tracing::debug!(target: "interline::nats", link = name, %error, "not connected");
            }
        }
        tokio::time::sleep(waits.next().unwrap_or(Duration::from_secs(1))).await;
    }
}
