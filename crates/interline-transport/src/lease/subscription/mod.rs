//! The feed and the control of a member, made of a transport's stores and its source.
//!
//! | file | responsibility |
//! |---|---|
//! | `shared` | what tasks and handles share |
//! | `keeper` | the task that looks, claims, renews and gives up |
//! | `reader` | the task that reads ahead |
//! | `ready` | what was read ahead |
//! | `feed`, `control` | the handles |

mod control;
mod feed;
mod keeper;
mod reader;
mod ready;
mod shared;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::{BoxFuture, FutureExt as _, try_join_all};
use interline_core::{Committed, Error, ErrorKind, Result, Start, SubscribeSpec, Topic};
use tokio::task::AbortHandle;

pub use self::control::{Control, WeakControl};
pub use self::feed::Feed;
use self::keeper::Keeper;
use self::shared::Shared;
use super::{Entry, LeaseStore, Leased, Leases, MemberId, Timing};

/// Joins the group of `spec` as a new member. Topics that are named have to exist.
///
/// Two tasks of the current runtime belong to the membership, and end with it: when it is closed,
/// or when feed and control were dropped, which to the group is a death.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound) for a named topic that does not exist,
/// [`PositionLost`](ErrorKind::PositionLost) for a start outside a partition, and those of the
/// stores.
///
/// # Cancellation
/// A dropped call leaves at most the group behind, at its start.
pub async fn subscribe<L: Leased>(
    leased: L,
    spec: SubscribeSpec,
    timing: Timing,
) -> Result<(Feed, Control)> {
    let topics = leased.topics(&spec).await?;
    check_named(&spec, &topics, leased.scheme())?;
    let mut leases = Leases::new(new_member(&spec), timing);
    for topic in &topics {
        leases.add_topic(topic.clone());
    }
    let shared = Arc::new(Shared::new(leases, timing, leased.scheme()));
    let source = leased.source();
    let inner = Arc::new(Inner {
        leased,
        spec,
        shared: Arc::clone(&shared),
        places: Mutex::default(),
    });
    let places: Vec<_> = topics.iter().map(|topic| inner.add(topic)).collect();
    let begin = topics.iter().zip(&places).map(|(topic, place)| {
        // A return topic is written for this group alone: nothing in it is old news.
        let start = if topic.is_system() {
            &Start::Earliest
        } else {
            &inner.spec.start
        };
        place.begin(start)
    });
    try_join_all(begin).await?;
    let keeper = tokio::spawn(Keeper::new(Arc::clone(&inner)).run());
    let reader = tokio::spawn(reader::run(Arc::clone(&shared), source));
    let membership = Arc::new(Membership {
        tasks: [keeper.abort_handle(), reader.abort_handle()],
    });
    let feed = Feed::new(Arc::clone(&shared), Arc::clone(&membership));
    Ok((feed, Control::new(shared, inner, membership)))
}

fn check_named(spec: &SubscribeSpec, topics: &[Topic], scheme: &'static str) -> Result<()> {
    let exists = |name: &str| topics.iter().any(|topic| topic.as_str() == name);
    let mut names = spec.topics.iter().filter_map(|pattern| pattern.as_exact());
    match names.find(|name| !exists(name)) {
        None => Ok(()),
        Some(name) => Err(Error::new(
            ErrorKind::NotFound,
            "subscribe",
            format!("topic `{name}` does not exist"),
        )
        .on(scheme)
        .remedy(format!("create it with `interline topics create {name}`"))),
    }
}

/// Sessions grow with the clock; the last bits tell two apart that start in one millisecond.
fn new_member(spec: &SubscribeSpec) -> MemberId {
    let random = uuid::Uuid::new_v4();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = now.map_or(0, |now| now.as_millis() as u64);
    let session = millis << 12 | u64::from(random.as_fields().1 & 0xfff);
    match &spec.instance {
        Some(instance) => MemberId::new(instance.as_str(), session),
        None => MemberId::new(&random.simple().to_string(), session),
    }
}

/// What the keeper and the control have in common.
#[derive(Debug)]
struct Inner<L: Leased> {
    leased: L,
    spec: SubscribeSpec,
    shared: Arc<Shared>,
    places: Mutex<BTreeMap<Topic, Arc<Place<L::Store>>>>,
}

/// A topic's store.
#[derive(Debug)]
struct Place<S> {
    store: S,
    begun: AtomicBool,
}

impl<S: LeaseStore> Place<S> {
    async fn begin(&self, start: &Start) -> Result<()> {
        if !self.begun.load(Ordering::Relaxed) {
            self.store.begin(start).await?;
            self.begun.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl<L: Leased> Inner<L> {
    fn places(&self) -> MutexGuard<'_, BTreeMap<Topic, Arc<Place<L::Store>>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, topic: &Topic) -> Arc<Place<L::Store>> {
        let place = Arc::new(Place {
            store: self.leased.store(&self.spec.group, topic),
            begun: AtomicBool::new(false),
        });
        self.places().insert(topic.clone(), Arc::clone(&place));
        place
    }

    fn place(&self, topic: &Topic) -> Option<Arc<Place<L::Store>>> {
        self.places().get(topic).cloned()
    }

    fn forget(&self, topic: &Topic) {
        self.places().remove(topic);
    }
}

/// Stores a member's checkpoints, whatever its transport: a control shows nothing of that.
trait Stores: std::fmt::Debug + Send + Sync {
    /// Those of one topic, in one step.
    fn commit<'a>(
        &'a self,
        topic: &'a Topic,
        me: &'a MemberId,
        entries: Vec<Entry>,
        release: bool,
    ) -> BoxFuture<'a, Result<Vec<Committed>>>;
}

impl<L: Leased> Stores for Inner<L> {
    fn commit<'a>(
        &'a self,
        topic: &'a Topic,
        me: &'a MemberId,
        entries: Vec<Entry>,
        release: bool,
    ) -> BoxFuture<'a, Result<Vec<Committed>>> {
        async move {
            match self.place(topic) {
                Some(place) => place.store.commit(me, entries, release).await,
                None => Err(Error::new(
                    ErrorKind::NotFound,
                    "commit",
                    format!("topic `{topic}` was deleted"),
                )),
            }
        }
        .boxed()
    }
}

/// Ends the tasks when the last handle is gone.
#[derive(Debug)]
struct Membership {
    tasks: [AbortHandle; 2],
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}
