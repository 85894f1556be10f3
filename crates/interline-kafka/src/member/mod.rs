//! A member of a group: the thread that reads, takes part in rebalances and commits.
//!
//! One thread owns the consumer. It never waits for the network for longer than a second, so
//! that it polls often enough not to be evicted, whatever handlers do. Everything it is told
//! comes as a [`Command`]; everything it tells leaves through the outbox.

mod assign;
mod commits;
mod revoke;
mod run;
mod topics;

use std::collections::{BTreeMap, VecDeque};
use std::error::Error as StdError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Instant, SystemTime};

use interline_core::{
    Checkpoint, Committed, Error, ErrorKind, Fence, Flow, Partition, Result, SubscribeSpec, Topic,
};
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::oneshot;

pub(crate) use self::assign::{MAX_METADATA, before};
use self::commits::Commits;
use self::topics::Topics;
pub(crate) use self::topics::{covered, listed};
use crate::cluster::Cluster;
use crate::error::kafka;
use crate::fetch::Fetcher;
use crate::ffi::{Native, Queue};
use crate::monitor::Watch;
use crate::outbox::{End, Outbox};
use crate::wake::{Bell, Wake};

/// What the holder of a member wants of its thread.
pub(crate) enum Command {
    Store {
        checkpoints: Vec<Checkpoint>,
        /// Whether the partitions are given up with it.
        release: bool,
        reply: oneshot::Sender<Result<Vec<Committed>>>,
    },
    Flow {
        partition: Partition,
        fence: Fence,
        flow: Flow,
    },
    Leave,
    #[cfg(feature = "it")]
    Stall,
    Close {
        reply: Option<oneshot::Sender<()>>,
    },
}

/// What feed and control share with the thread.
pub(crate) struct Handle {
    pub(crate) outbox: Arc<Outbox>,
    inbox: Arc<Inbox>,
}

/// Commands on their way.
pub(crate) struct Inbox {
    /// Nothing once the thread has ended: what is sent then is dropped, which answers it.
    commands: Mutex<Option<Vec<Command>>>,
    wake: OnceLock<Wake>,
}

/// Closes an inbox when its thread ends, however it ends.
pub(crate) struct Shut(pub(crate) Arc<Inbox>);

impl Drop for Shut {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

impl Handle {
    pub(crate) fn new() -> Self {
        Self {
            outbox: Arc::new(Outbox::new()),
            inbox: Arc::new(Inbox {
                commands: Mutex::new(Some(Vec::new())),
                wake: OnceLock::new(),
            }),
        }
    }

    pub(crate) fn send(&self, command: Command) {
        self.inbox.send(command);
    }

    pub(crate) fn parts(&self) -> (Arc<Outbox>, Arc<Inbox>) {
        (Arc::clone(&self.outbox), Arc::clone(&self.inbox))
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.send(Command::Close { reply: None });
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<Command>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, command: Command) {
        if let Some(commands) = &mut *self.lock() {
            commands.push(command);
        }
        if let Some(wake) = self.wake.get() {
            wake.wake();
        }
    }

    pub(crate) fn woken_by_commands(&self, wake: Wake) {
        // Set once, by the thread that takes the commands.
        let _ = self.wake.set(wake);
    }

    pub(crate) fn take(&self) -> Vec<Command> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// A number that grows with every assignment, in this process and, as far as clocks go, beyond.
fn next_fence() -> Fence {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    let last = LAST.fetch_max(now, Ordering::AcqRel);
    if last < now {
        now
    } else {
        LAST.fetch_add(1, Ordering::AcqRel) + 1
    }
}

/// What the group decided, as the polling thread heard it.
enum Rebalance {
    Assign(TopicPartitionList),
    Revoke {
        list: TopicPartitionList,
        /// Somebody else may own the partitions already.
        lost: bool,
    },
}

/// The context of a member's consumer: it keeps what the group decided for the main loop.
///
/// The loop unassigns when everything is released, not the callback: librdkafka allows that, and
/// commands are served meanwhile.
struct MemberContext {
    watch: Watch,
    rebalances: Mutex<VecDeque<Rebalance>>,
}

impl ClientContext for MemberContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.watch.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.watch.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn StdError>> {
        self.watch.generate_oauth_token(config)
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        code: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let list = list.clone();
        let rebalance = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(list),
            _ => Rebalance::Revoke {
                list,
                // It is false again once something was unassigned.
                lost: consumer.assignment_lost(),
            },
        };
        let mut waiting = self
            .rebalances
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        waiting.push_back(rebalance);
    }
}

/// A partition that is owned.
struct Owned {
    fence: Fence,
    /// The offset to commit as long as nothing is settled.
    start: i64,
    is_released: bool,
}

/// Where the member stands in the group's protocol.
enum Phase {
    Steady,
    /// The group gave partitions; where they start is being asked.
    Assigning {
        list: TopicPartitionList,
        retry_at: Instant,
    },
    /// The group takes partitions away; their owner may settle until the deadline.
    Revoking {
        list: TopicPartitionList,
        deadline: Instant,
    },
}

/// The state of the thread.
struct Member {
    cluster: Arc<Cluster>,
    spec: SubscribeSpec,
    consumer: Arc<BaseConsumer<MemberContext>>,
    outbox: Arc<Outbox>,
    inbox: Arc<Inbox>,
    wake: Wake,
    common: Queue,
    commits: Commits,
    fetcher: Fetcher,
    topics: Topics,
    owned: BTreeMap<Partition, Owned>,
    phase: Phase,
    is_leaving: bool,
    /// When partitions were unassigned, until the group's next decision.
    unassigned: Option<Instant>,
    closing: Option<Closing>,
    checked: Instant,
}

/// The end of the membership. A member that leaves ends it; the thread ends when it is asked to.
#[derive(Default)]
struct Closing {
    replies: Vec<oneshot::Sender<()>>,
    is_asked: bool,
    began: bool,
}

/// Starts a member. `fresh` are the partitions, by topic, for which a new group's start counts.
pub(crate) fn join(
    cluster: Arc<Cluster>,
    spec: SubscribeSpec,
    topics: Vec<Topic>,
    fresh: BTreeMap<Topic, u32>,
) -> Result<Arc<Handle>> {
    let instance = spec.instance.as_ref().map(AsRef::as_ref);
    let config = cluster.resolved.member(&spec.group, instance);
    let context = MemberContext {
        watch: cluster.watch.clone(),
        rebalances: Mutex::default(),
    };
    let consumer: BaseConsumer<MemberContext> = config
        .create_with_context(context)
        .map_err(|error| kafka("subscribe", &error))?;
    let handle = Arc::new(Handle::new());
    let (outbox, inbox) = handle.parts();
    let topics = Topics::new(topics, fresh);
    thread::Builder::new()
        .name(format!("interline-kafka-{}", spec.group))
        .spawn(move || {
            let consumer = Arc::new(consumer);
            let _shut = Shut(Arc::clone(&inbox));
            match Member::new(cluster, spec, consumer, Arc::clone(&outbox), inbox, topics) {
                Some(member) => member.run(),
                None => outbox.end(End::Closed),
            }
        })
        .map_err(|cause| {
            Error::new(
                ErrorKind::Unavailable,
                "subscribe",
                "no thread could be started",
            )
            .because(cause)
        })?;
    Ok(handle)
}

impl Member {
    fn new(
        cluster: Arc<Cluster>,
        spec: SubscribeSpec,
        consumer: Arc<BaseConsumer<MemberContext>>,
        outbox: Arc<Outbox>,
        inbox: Arc<Inbox>,
        topics: Topics,
    ) -> Option<Self> {
        let wake = Wake::current();
        inbox.woken_by_commands(wake.clone());
        outbox.woken_by_room(wake.clone());
        let bell = || Arc::new(Bell::new(&wake));
        let client = || -> Arc<dyn Native> { Arc::<BaseConsumer<_>>::clone(&consumer) };
        Some(Self {
            common: Queue::common(client(), bell())?,
            commits: Commits::new(Queue::for_commits(client(), bell())?),
            fetcher: Fetcher::new(client(), wake.clone()),
            cluster,
            spec,
            consumer,
            outbox,
            inbox,
            wake,
            topics,
            owned: BTreeMap::new(),
            phase: Phase::Steady,
            is_leaving: false,
            unassigned: None,
            closing: None,
            checked: Instant::now(),
        })
    }

    /// The partition that the cluster calls so.
    fn partition(&self, name: &str, index: i32) -> Option<Partition> {
        let topic = self.cluster.resolved.names.to_topic(name)?;
        Some(Partition::new(topic, u32::try_from(index).ok()?))
    }

    /// The partitions of a list, by our names.
    fn partitions(&self, list: &TopicPartitionList) -> Vec<Partition> {
        let elements = list.elements();
        let known = elements
            .iter()
            .map(|e| self.partition(e.topic(), e.partition()));
        known.flatten().collect()
    }

    fn name(&self, topic: &Topic) -> String {
        self.cluster.resolved.names.topic(topic)
    }
}

/// Adds a partition with an offset to commit or to read from.
fn add(
    list: &mut TopicPartitionList,
    name: &str,
    index: u32,
    offset: rdkafka::Offset,
) -> Result<(), KafkaError> {
    let index = i32::try_from(index).unwrap_or(i32::MAX);
    list.add_partition_offset(name, index, offset)
}
