//! The inbox in this process: what a group has handled before.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use interline_core::{BoxFuture, Claim, Group, Inbox, Result};
use tokio::time::Instant;
use uuid::Uuid;

/// An inbox in this process: it forgets with the process, and after its time to live.
///
/// ```
/// # use std::time::Duration;
/// # use interline_core::{EventId, Group};
/// use interline_reliability::{Claim, Inbox, MemoryInbox};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> interline_core::Result<()> {
/// let inbox = MemoryInbox::default();
/// let (group, id) = (Group::new("billing")?, EventId::new().identity("/shop"));
/// let lease = Duration::from_secs(60);
/// assert_eq!(inbox.claim(&group, id, lease).await?, Claim::Fresh);
/// assert!(matches!(inbox.claim(&group, id, lease).await?, Claim::Busy(_)));
/// inbox.done(&group, id).await?;
/// assert_eq!(inbox.claim(&group, id, lease).await?, Claim::Done);
/// # Ok(()) }
/// ```
pub struct MemoryInbox {
    ttl: Duration,
    groups: Mutex<HashMap<Group, Generations>>,
}

/// Done events in two generations: dropping the older one forgets in bulk, so that an event is
/// kept for one to two times the time to live.
struct Generations {
    turned: Instant,
    claims: HashMap<Uuid, Instant>,
    new: HashSet<Uuid>,
    old: HashSet<Uuid>,
}

impl Default for MemoryInbox {
    /// Remembers for 7 days, the retention of most topics.
    fn default() -> Self {
        Self::new(Duration::from_secs(7 * 24 * 3_600))
    }
}

impl MemoryInbox {
    /// An inbox that remembers for at least `ttl`, which should exceed the topic's retention.
    #[must_use]
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            groups: Mutex::default(),
        }
    }

    fn with<T>(&self, group: &Group, change: impl FnOnce(&mut Generations, Instant) -> T) -> T {
        let now = Instant::now();
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let generations = groups.entry(group.clone()).or_insert_with(|| Generations {
            turned: now,
            claims: HashMap::new(),
            new: HashSet::new(),
            old: HashSet::new(),
        });
        if now.duration_since(generations.turned) >= self.ttl {
            generations.old = std::mem::take(&mut generations.new);
            generations.claims.retain(|_, until| *until > now);
            generations.turned = now;
        }
        change(generations, now)
    }
}

impl Inbox for MemoryInbox {
    fn claim<'a>(
        &'a self,
        group: &'a Group,
        id: Uuid,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Claim>> {
        let claim = self.with(group, |kept, now| {
            if kept.new.contains(&id) || kept.old.contains(&id) {
                return Claim::Done;
            }
            match kept.claims.get(&id) {
                Some(until) if *until > now => Claim::Busy(until.duration_since(now)),
                _ => {
                    kept.claims.insert(id, now + lease);
                    Claim::Fresh
                }
            }
        });
        Box::pin(std::future::ready(Ok(claim)))
    }

    fn done<'a>(&'a self, group: &'a Group, id: Uuid) -> BoxFuture<'a, Result<()>> {
        self.with(group, |kept, _| {
            kept.claims.remove(&id);
            kept.new.insert(id);
        });
        Box::pin(std::future::ready(Ok(())))
    }

    fn release<'a>(&'a self, group: &'a Group, id: Uuid) -> BoxFuture<'a, Result<()>> {
        self.with(group, |kept, _| kept.claims.remove(&id));
        Box::pin(std::future::ready(Ok(())))
    }
}

impl fmt::Debug for MemoryInbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "memory inbox, {:?}", self.ttl)
    }
}
