//! Connections to the server.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use interline_core::{Error, ErrorKind, Result};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls};

use crate::SCHEME;
use crate::config::Resolved;
use crate::error::{late, pool, postgres};

/// What every connection says first. What is stored has to be on disk when it is acknowledged,
/// whatever the server's default; and names resolve to nothing that others have put in the way.
const SETUP: &str = "set synchronous_commit = on; \
    set default_transaction_isolation = 'read committed'; \
    set client_min_messages = warning; \
    set search_path = ''";

/// What those say beside that whose statements are planned once. A plan made while the tables
/// were small would read them as a whole when they are large.
const PLANNED: &str = "set plan_cache_mode = force_generic_plan; set jit = off; \
    set enable_seqscan = off; set enable_bitmapscan = off";

/// What a connection is for, as the server shows it.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Publish,
    Read,
    Watch,
}

/// A connection of its own. Dropping it closes the connection once what is under way is done.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Arc<Client>,
    driver: JoinHandle<()>,
    /// Its other end is dropped with the connection.
    ended: watch::Receiver<()>,
}

impl Session {
    /// Waits until the connection has ended, whoever ended it.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            // Nothing is ever sent: an error is the end.
            while ended.changed().await.is_ok() {}
        }
    }

    /// Ends the connection now.
    pub(crate) fn kill(&self) {
        self.driver.abort();
    }

    /// Asks the server to give up what it is doing for this connection.
    pub(crate) fn cancel(&self, resolved: &Resolved) {
        let (token, tls) = (self.client.cancel_token(), resolved.tls.clone());
        tokio::spawn(async move {
            let cancelled = match tls {
                Some(tls) => token.cancel_query(tls).await,
                None => token.cancel_query(NoTls).await,
            };
            if let Err(error) = cancelled {
                tracing::debug!(target: "interline::postgres", %error, "not cancelled");
            }
        });
    }
}

impl Resolved {
    /// Opens a connection. A notification rings `bell`.
    pub(crate) async fn session(
        &self,
        operation: &'static str,
        purpose: Purpose,
        bell: Option<Arc<Notify>>,
    ) -> Result<Session> {
        let timeout = self.config.request_timeout;
        let opening = self.open(operation, purpose, bell);
        within(operation, timeout, opening).await?
    }

    async fn open(
        &self,
        operation: &'static str,
        purpose: Purpose,
        bell: Option<Arc<Notify>>,
    ) -> Result<Session> {
        let mut driver = self.driver.clone();
        let (name, planned) = match purpose {
            Purpose::Publish => ("interline publish", true),
            Purpose::Read => ("interline read", true),
            Purpose::Watch => ("interline watch", false),
        };
        driver.application_name(name);
        let failed = |error| postgres(operation, error);
        let (end, ended) = watch::channel(());
        let (client, driver) = match &self.tls {
            Some(tls) => {
                let (client, connection) = driver.connect(tls.clone()).await.map_err(failed)?;
                (client, tokio::spawn(drive(connection, bell, end)))
            }
            None => {
                let (client, connection) = driver.connect(NoTls).await.map_err(failed)?;
                (client, tokio::spawn(drive(connection, bell, end)))
            }
        };
        client.batch_execute(SETUP).await.map_err(failed)?;
        if planned {
            client.batch_execute(PLANNED).await.map_err(failed)?;
        }
        Ok(Session {
            client: Arc::new(client),
            driver,
            ended,
        })
    }

    /// The connections that are shared by whoever needs one for a moment.
    pub(crate) fn pool(&self) -> Result<Pool> {
        let manager_config = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = match &self.tls {
            Some(tls) => Manager::from_config(self.driver.clone(), tls.clone(), manager_config),
            None => Manager::from_config(self.driver.clone(), NoTls, manager_config),
        };
        let setup = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
            Box::pin(async move {
                let done = client.batch_execute(SETUP).await;
                done.map_err(HookError::Backend)
            })
        });
        let timeout = Some(self.config.request_timeout);
        Pool::builder(manager)
            .max_size(self.config.connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(timeout)
            .create_timeout(timeout)
            .post_create(setup)
            .build()
            .map_err(|cause| {
                Error::new(ErrorKind::Config, "connect", "the pool cannot be made")
                    .on(SCHEME)
                    .because(cause)
            })
    }
}

/// Takes a connection from the pool. One whose answer is not waited for must be taken out of it,
/// or the next user would wait for that answer.
pub(crate) async fn lend(
    operation: &'static str,
    connections: &Pool,
) -> Result<deadpool_postgres::Object> {
    connections
        .get()
        .await
        .map_err(|error| pool(operation, error))
}

/// Serves a connection until it ends; `_end` is dropped then.
async fn drive<S, T>(
    mut connection: Connection<S, T>,
    bell: Option<Arc<Notify>>,
    _end: watch::Sender<()>,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        match (message, &bell) {
            (Ok(AsyncMessage::Notification(_)), Some(bell)) => bell.notify_one(),
            (Ok(_), _) => {}
            // Whoever waits for an answer hears of it.
            (Err(_), _) => return,
        }
    }
}

/// The answer to a request, unless it takes too long.
pub(crate) async fn within<T>(
    operation: &'static str,
    timeout: Duration,
    request: impl Future<Output = T>,
) -> Result<T> {
    tokio::time::timeout(timeout, request)
        .await
        .map_err(|_| late(operation))
}
