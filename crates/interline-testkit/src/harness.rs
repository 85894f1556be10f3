//! How the suite drives a transport.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use interline_core::{
    AnyControl, AnyFeed, AnyTransport, BoxFuture, Capabilities, Error, ErrorKind, Group, Result,
    Topic, Transport,
};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::{Breach, Journal, Verdict};

type Hook<A, T = ()> = Arc<dyn Fn(A) -> BoxFuture<'static, Result<T>> + Send + Sync>;

/// How a transport is connected to, what can be done to its server, and the latitude that it
/// claims.
///
/// A hook that a declared capability implies has to be given: a persistent transport can be
/// restarted, and one with foreign writers is written to by one. Without such a hook the scenarios
/// that need it fail; a scenario is `unsupported` only if the capability is not declared.
///
/// ```
/// use std::time::Duration;
/// use interline_testkit::Harness;
///
/// let url = format!("memory://{}", Harness::fresh("suite"));
/// let harness = Harness::new(move || {
///     let url = url.clone();
///     async move { interline_memory::connect(&*url).await }
/// })
/// .lease(Duration::from_secs(15));
/// ```
#[derive(Clone)]
pub struct Harness {
    connect: Hook<(), AnyTransport>,
    pub(crate) outage: Option<Outage>,
    pub(crate) foreign: Option<Hook<Foreign>>,
    kill: Hook<(AnyFeed, AnyControl)>,
    patience: Duration,
    lease: Duration,
    members: usize,
    lapses: bool,
}

/// Stops and starts the server.
#[derive(Clone)]
pub(crate) struct Outage {
    pub(crate) kill: Hook<()>,
    pub(crate) start: Hook<()>,
}

/// What a client writes that knows nothing of interline.
#[derive(Clone, Debug)]
pub struct Foreign {
    /// Where to.
    pub topic: Topic,
    /// The key.
    pub key: Option<Bytes>,
    /// Names and values.
    pub headers: Vec<(String, Bytes)>,
    /// The payload.
    pub payload: Option<Bytes>,
}

impl Harness {
    /// A harness for what `connect` connects to: a new connection, independent of the others, at
    /// each call, all to the same server.
    pub fn new<T, F>(connect: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        T: Transport,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        Self {
            connect: Arc::new(move |()| {
                let connecting = connect();
                Box::pin(async move { Ok(AnyTransport::new(connecting.await?)) })
            }),
            outage: None,
            foreign: None,
            kill: Arc::new(|handles| {
                drop(handles);
                Box::pin(async { Ok(()) })
            }),
            patience: Duration::from_secs(60),
            lease: Duration::from_secs(15),
            members: usize::MAX,
            lapses: true,
        }
    }

    /// Gives the hooks that kill the server without warning, and start it again with what it had
    /// stored. Starting returns once it answers.
    #[must_use]
    pub fn outage<K, S>(
        mut self,
        kill: impl Fn() -> K + Send + Sync + 'static,
        start: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self
    where
        K: Future<Output = Result<()>> + Send + 'static,
        S: Future<Output = Result<()>> + Send + 'static,
    {
        self.outage = Some(Outage {
            kill: Arc::new(move |()| Box::pin(kill())),
            start: Arc::new(move |()| Box::pin(start())),
        });
        self
    }

    /// Gives the hook that writes as a client that knows nothing of interline.
    #[must_use]
    pub fn write_foreign<F>(mut self, write: impl Fn(Foreign) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.foreign = Some(Arc::new(move |foreign| Box::pin(write(foreign))));
        self
    }

    /// Sets how a member dies without a goodbye; by default its handles are dropped.
    #[must_use]
    pub fn kill<F>(
        mut self,
        kill: impl Fn(AnyFeed, AnyControl) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        self.kill = Arc::new(move |(feed, control)| Box::pin(kill(feed, control)));
        self
    }

    /// Sets how long the suite waits for one thing: 60 s by default.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets how long the partitions of a dead member stay with it: 15 s by default.
    #[must_use]
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Declares that a group has at most this many members at a time; scenarios with more are
    /// unsupported.
    #[must_use]
    pub fn members(mut self, most: usize) -> Self {
        self.members = most;
        self
    }

    /// Declares whether the lease of a member lapses while nobody asks its feed for signals, as
    /// it does by default; a transport that renews it from a thread of its own says no.
    #[must_use]
    pub fn lapses_unread(mut self, lapses: bool) -> Self {
        self.lapses = lapses;
        self
    }

    /// A name that nobody has used: `what` with a random end.
    #[must_use]
    pub fn fresh(what: &str) -> String {
        format!("{what}-{:08x}", fastrand::u32(..))
    }

    /// A group that nobody has used.
    ///
    /// # Errors
    /// If `what` is no legal group name.
    pub fn fresh_group(&self, what: &str) -> Result<Group> {
        Group::new(Self::fresh(what))
    }

    /// A topic that nobody has used; it is not created.
    ///
    /// # Errors
    /// If `what` is no legal topic name.
    pub fn fresh_topic(&self, what: &str) -> Result<Topic> {
        Topic::new(Self::fresh(what))
    }

    /// A new connection.
    ///
    /// # Errors
    /// Those of the transport.
    pub async fn connect(&self) -> Verdict<AnyTransport> {
        let connected = self.within("a connection", (self.connect)(())).await?;
        Ok(connected?)
    }

    /// What the transport declares.
    ///
    /// # Errors
    /// Those of connecting.
    pub async fn capabilities(&self) -> Verdict<Capabilities> {
        let transport = self.connect().await?;
        let capabilities = transport.capabilities();
        transport.close(self.patience).await?;
        Ok(capabilities)
    }

    pub(crate) async fn kill_member(&self, feed: AnyFeed, control: AnyControl) -> Result<()> {
        (self.kill)((feed, control)).await
    }

    pub(crate) async fn foreign(&self, foreign: Foreign) -> Verdict {
        let missing = || {
            Error::new(
                ErrorKind::Config,
                "write foreign",
                "the harness has no hook",
            )
        };
        let write = self.foreign.as_ref().ok_or_else(missing)?;
        Ok(write(foreign).await?)
    }

    /// How long the suite waits for one thing.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.patience
    }

    pub(crate) fn lease_time(&self) -> Duration {
        self.lease
    }

    pub(crate) fn most_members(&self) -> usize {
        self.members
    }

    pub(crate) fn lapses(&self) -> bool {
        self.lapses
    }

    /// Waits for `future`, at most as long as the suite waits for one thing.
    ///
    /// # Errors
    /// A breach naming `what` was waited for.
    pub async fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> Verdict<T> {
        let patience = self.patience;
        let late = |_| Breach::new(format!("waited {patience:?} in vain for {what}"));
        timeout(patience, future).await.map_err(late)
    }

    /// Waits until `look` finds something in `journal`.
    ///
    /// # Errors
    /// A breach naming `what` was waited for and how far the journal had come.
    pub async fn until<E, T>(
        &self,
        what: &str,
        journal: &Journal<E>,
        look: impl FnMut(&[E]) -> Option<T>,
    ) -> Verdict<T> {
        let seen = self.within(what, journal.until(look)).await;
        seen.map_err(|late| Breach::new(format!("{late} ({} noted)", journal.see(<[E]>::len))))
    }

    /// Asks `look` again and again until it says yes: for what the transport tells only if asked.
    ///
    /// # Errors
    /// A breach naming `what` was waited for, or the error of `look`.
    pub async fn eventually<F>(&self, what: &str, mut look: impl FnMut() -> F) -> Verdict
    where
        F: Future<Output = Verdict<bool>>,
    {
        let mut ticks = interval(Duration::from_millis(50));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let asking = async {
            while !look().await? {
                ticks.tick().await;
            }
            Ok(())
        };
        self.within(what, asking).await?
    }
}

impl fmt::Debug for Harness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harness")
            .field("outage", &self.outage.is_some())
            .field("foreign", &self.foreign.is_some())
            .field("patience", &self.patience)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
