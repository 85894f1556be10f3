//! A group of handlers, described and started.

use std::sync::Arc;
use std::time::Duration;

use interline_core::{
    Admin, AnyTransport, Error, ErrorKind, Event, Group, Instance, Pattern, Result, Start,
    SubscribeSpec, Topic, TopicSpec, Transport,
};
use interline_reliability::{
    DeadLetter, DeadLetterPolicy, Inbox, Policy, Retry, Unhandled, return_topic,
};
use tokio::sync::mpsc;

use crate::bus::Bus;
use crate::engine::{Config, DeadLetterHook, Engine, Status};
use crate::handler::{
    BatchHandler, BatchOptions, Handler, RawHandler, Route, Setup, batch_route, raw_route,
    typed_route,
};
use crate::router::Router;
use crate::workers::{Member, Workers};

type MakeRoute = Box<dyn FnOnce(&Setup, Option<usize>) -> Result<Route> + Send + Sync>;

/// A group of handlers that is being described; [`start`](Self::start) makes it live.
///
/// The first mistake is kept and returned by `start`, before anything is read.
#[must_use = "a group does nothing before it is started"]
pub struct GroupBuilder {
    bus: Bus,
    name: String,
    /// The random end of a broadcast group's name; dead letters are filed without it.
    suffix: Option<String>,
    mistake: Option<Error>,
    setup: Setup,
    routes: Vec<(MakeRoute, Option<usize>)>,
    topics: Vec<Pattern>,
    policy: Policy,
    start: Start,
    instance: Option<Instance>,
    lanes: usize,
    members: usize,
    window_events: usize,
    window_bytes: usize,
    on_dead_letter: Option<DeadLetterHook>,
}

impl GroupBuilder {
    pub(crate) fn new(bus: Bus, name: &str) -> Self {
        Self {
            setup: Setup::new(bus.clone()),
            bus,
            name: name.to_owned(),
            suffix: None,
            mistake: None,
            routes: Vec::new(),
            topics: Vec::new(),
            policy: Policy::default(),
            start: Start::Earliest,
            instance: None,
            lanes: 64,
            members: 1,
            window_events: 4_096,
            window_bytes: 16 << 20,
            on_dead_letter: None,
        }
    }

    pub(crate) fn broadcast(bus: Bus, name: &str) -> Self {
        Self {
            suffix: Some(format!("{:016x}", fastrand::u64(..))),
            start: Start::Latest,
            ..Self::new(bus, name)
        }
    }

    /// Shares `state` with every handler that asks for `State<T>`.
    pub fn state<T: Clone + Send + Sync + 'static>(mut self, state: T) -> Self {
        self.setup.insert(state);
        self
    }

    /// Adds a handler for the event in its first argument, and reads that event's topic.
    pub fn on<Args: 'static, H: Handler<Args>>(self, handler: H) -> Self {
        self.topic_of::<H::Event>()
            .route(Box::new(move |setup, limit| {
                let pattern = Pattern::exact(H::Event::TYPE);
                typed_route::<Args, H>(pattern, handler, limit, setup)
            }))
    }

    /// Adds a handler that takes every type that fits `pattern` as its event, for types that
    /// share a shape. Name the topics with [`topics`](Self::topics): that of the event is not
    /// read by itself.
    ///
    /// A handler of an exact type goes before a pattern, a pattern before those added later.
    pub fn on_types<Args: 'static, H: Handler<Args>>(
        mut self,
        pattern: impl AsRef<str>,
        handler: H,
    ) -> Self {
        match Pattern::new(pattern) {
            Ok(pattern) => self.route(Box::new(move |setup, limit| {
                typed_route::<Args, H>(pattern, handler, limit, setup)
            })),
            Err(error) => {
                self.mistake.get_or_insert(error);
                self
            }
        }
    }

    /// Adds a handler that takes several events at once, and reads their topic.
    pub fn on_batch<Args: 'static, H: BatchHandler<Args>>(
        self,
        options: BatchOptions,
        handler: H,
    ) -> Self {
        self.topic_of::<H::Event>()
            .route(Box::new(move |setup, limit| {
                batch_route::<Args, H>(handler, options, limit, setup)
            }))
    }

    /// Adds a handler for every type that fits `pattern`; it takes envelopes and other
    /// extractors. Name the topics with [`topics`](Self::topics).
    ///
    /// A handler of an exact type goes before a pattern.
    pub fn on_raw<Args: 'static, H: RawHandler<Args>>(
        mut self,
        pattern: impl AsRef<str>,
        handler: H,
    ) -> Self {
        match Pattern::new(pattern) {
            Ok(pattern) => self.route(Box::new(move |setup, limit| {
                raw_route::<Args, H>(pattern, handler, limit, setup)
            })),
            Err(error) => {
                self.mistake.get_or_insert(error);
                self
            }
        }
    }

    /// At most `calls` calls of the handler added last run at a time.
    pub fn limit(mut self, calls: usize) -> Self {
        if let Some((_, limit)) = self.routes.last_mut() {
            *limit = Some(calls.max(1));
        }
        self
    }

    /// Reads the topics that fit `pattern`, beside those of the typed handlers.
    pub fn topics(mut self, pattern: impl AsRef<str>) -> Self {
        match Pattern::new(pattern) {
            Ok(pattern) => self.add_topic(pattern),
            Err(error) => {
                self.mistake.get_or_insert(error);
            }
        }
        self
    }

    /// At most `lanes` events run at a time in each member (64 by default); those of one key
    /// always run one after the other.
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = lanes.max(1);
        self
    }

    /// This process joins the group with `members` members (1 by default), each a task of its
    /// own with its own share of the partitions.
    pub fn members(mut self, members: usize) -> Self {
        self.members = members.max(1);
        self
    }

    /// Bounds how far a partition is read beyond its frontier: 4,096 events and 16 MiB by
    /// default.
    pub fn window(mut self, events: usize, bytes: usize) -> Self {
        self.window_events = events.max(1);
        self.window_bytes = bytes.max(1);
        self
    }

    /// Sets how often and when a failed delivery is tried again.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.policy.retry = retry;
        self
    }

    /// Sets where events go that are not tried again.
    pub fn dead_letter(mut self, policy: DeadLetterPolicy) -> Self {
        self.policy.dead_letter = policy;
        self
    }

    /// Calls `hook` for each stored dead letter: an alarm, not a handler; it must not block.
    pub fn on_dead_letter(mut self, hook: impl Fn(&DeadLetter) + Send + Sync + 'static) -> Self {
        self.on_dead_letter = Some(Arc::new(hook));
        self
    }

    /// Remembers what was handled, so that a redelivered event does not run again.
    pub fn dedupe(mut self, inbox: impl Inbox + 'static) -> Self {
        self.policy.inbox = Some(Arc::new(inbox));
        self
    }

    /// Sets how long one attempt may take (30 s by default); then its future is dropped.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.policy.timeouts.handler = timeout;
        self
    }

    /// Sets the longest delay that is held in its lane (60 s by default); a longer one goes
    /// through the return topic and gives up the key's order.
    pub fn max_hold(mut self, longest: Duration) -> Self {
        self.policy.timeouts.max_hold = longest;
        self
    }

    /// Sets what happens to types without a handler: acked and counted by default.
    pub fn unhandled(mut self, unhandled: Unhandled) -> Self {
        self.policy.unhandled = unhandled;
        self
    }

    /// Replaces the whole policy.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Where the group starts if it is new: at the earliest event by default.
    pub fn start_at(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Names this member, so that a restarted process takes its old membership over at once.
    pub fn instance(mut self, instance: Instance) -> Self {
        self.instance = Some(instance);
        self
    }

    /// What is in force, line by line.
    ///
    /// # Errors
    /// The first mistake made while describing.
    pub fn describe(mut self) -> Result<String> {
        use std::fmt::Write as _;
        let ((group, _), topics) = (self.names()?, self.topics.clone());
        let (lanes, members, start) = (self.lanes, self.members, self.start.clone());
        let policy = self.policy.clone();
        let router = self.into_router()?;
        let mut text = format!("group: {group}\n");
        for topic in topics {
            let _ = writeln!(text, "topic: {topic} (matched by the transport)");
        }
        for (pattern, handler) in router.describe() {
            let _ = writeln!(text, "handler: {pattern} -> {handler} (matched here)");
        }
        let _ = writeln!(text, "lanes: {lanes}, members: {members}, start: {start:?}");
        let _ = write!(text, "{policy}");
        Ok(text)
    }

    /// Makes sure that the topics exist, joins the group and starts the handlers.
    ///
    /// # Errors
    /// The first mistake made while describing; a missing topic that may not be created;
    /// a server that refuses or does not answer. Nothing is left running then.
    pub async fn start(mut self) -> Result<Workers> {
        let (group, filed_under) = self.names()?;
        if self.topics.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "start",
                format!("the group `{group}` reads no topic"),
            )
            .remedy("add one with `.topics(pattern)`"));
        }
        self.policy.dead_letter.check()?;
        let transport = self.bus.transport().clone();
        let publisher = self.bus.publisher().await?.clone();
        self.ensure_topics(&transport, &group, &filed_under).await?;
        let spec = SubscribeSpec {
            group: group.clone(),
            topics: self.topics.clone(),
            returns: self.suffix.is_none(),
            start: self.start.clone(),
            instance: self.instance.clone(),
        };
        let shared = self.shared();
        let (members, broadcast) = (self.members, self.suffix.is_some());
        let router = Arc::new(self.into_router()?);
        let mut subscriptions = Vec::with_capacity(members);
        for number in 0..members {
            subscriptions.push(transport.subscribe(member_spec(&spec, number)?).await?);
        }
        let mut workers = Workers::new(broadcast.then(|| (transport.admin(), group.clone())));
        for (feed, control) in subscriptions {
            let config = Config {
                group: group.clone(),
                filed_under: filed_under.clone(),
                policy: shared.policy.clone(),
                router: Arc::clone(&router),
                lanes: shared.lanes,
                window_events: shared.window_events,
                window_bytes: shared.window_bytes,
                capabilities: transport.capabilities(),
                on_dead_letter: shared.on_dead_letter.clone(),
            };
            let patience = config.policy.timeouts.handler + config.policy.timeouts.stuck;
            let status = Arc::new(Status::default());
            let (commands, receiver) = mpsc::unbounded_channel();
            let engine = Engine::new(
                config,
                feed,
                control.clone(),
                publisher.clone(),
                Arc::clone(&status),
                receiver,
            );
            workers.add(Member::spawn(engine, commands, status, control, patience));
        }
        Ok(workers)
    }

    async fn ensure_topics(
        &self,
        transport: &AnyTransport,
        group: &Group,
        filed_under: &Group,
    ) -> Result<()> {
        let mut specs = Vec::new();
        for name in self.topics.iter().filter_map(Pattern::as_exact) {
            let topic = Topic::system(name)?;
            if !topic.is_system() {
                let letters = self.policy.dead_letter.topic_for(&topic, filed_under);
                specs.push(TopicSpec::new(letters));
                if self.suffix.is_none() {
                    specs.push(return_topic(&topic, group));
                }
            }
            specs.push(TopicSpec::new(topic));
        }
        specs.sort_unstable_by(|a, b| a.topic.cmp(&b.topic));
        specs.dedup_by(|a, b| a.topic == b.topic);
        transport.admin().ensure(specs).await.map(|_| ())
    }

    /// The group and the name under which its dead letters are filed.
    fn names(&mut self) -> Result<(Group, Group)> {
        if let Some(mistake) = self.mistake.take() {
            return Err(mistake);
        }
        let filed_under = Group::new(&self.name)?;
        let group = match &self.suffix {
            Some(suffix) => Group::new(format!("{}-{suffix}", self.name))?,
            None => filed_under.clone(),
        };
        Ok((group, filed_under))
    }

    fn shared(&self) -> SharedConfig {
        SharedConfig {
            policy: self.policy.clone(),
            lanes: self.lanes,
            window_events: self.window_events,
            window_bytes: self.window_bytes,
            on_dead_letter: self.on_dead_letter.clone(),
        }
    }

    fn into_router(self) -> Result<Router> {
        let setup = self.setup;
        let routes = self.routes.into_iter();
        Router::new(
            routes
                .map(|(make, limit)| {
                    let route = make(&setup, limit)?;
                    Ok(match setup.bus.witnesses() {
                        Some(witness) => route.witnessed(Arc::clone(witness)),
                        None => route,
                    })
                })
                .collect::<Result<_>>()?,
        )
    }

    fn topic_of<E: Event>(mut self) -> Self {
        self.add_topic(Pattern::exact(E::TOPIC));
        self
    }

    fn add_topic(&mut self, pattern: Pattern) {
        if !self.topics.contains(&pattern) {
            self.topics.push(pattern);
        }
    }

    fn route(mut self, make: MakeRoute) -> Self {
        self.routes.push((make, None));
        self
    }
}

struct SharedConfig {
    policy: Policy,
    lanes: usize,
    window_events: usize,
    window_bytes: usize,
    on_dead_letter: Option<DeadLetterHook>,
}

/// Several members of one process are told apart by their number.
fn member_spec(spec: &SubscribeSpec, number: usize) -> Result<SubscribeSpec> {
    let mut spec = spec.clone();
    if let (Some(instance), 1..) = (&spec.instance, number) {
        spec.instance = Some(Instance::new(format!("{instance}-{number}"))?);
    }
    Ok(spec)
}

impl std::fmt::Debug for GroupBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupBuilder")
            .field("group", &self.name)
            .field("topics", &self.topics)
            .field("handlers", &self.routes.len())
            .finish_non_exhaustive()
    }
}
