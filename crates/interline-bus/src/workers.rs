//! The running members of one or more groups.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use interline_core::{Admin, AnyAdmin, AnyControl, Control, Error, ErrorKind, Group, Result};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

use crate::engine::{Command, DrainReport, Engine, GroupStats, Status};

/// Running handlers: one lifecycle for one or more groups.
///
/// Dropped without [`drain`](Self::drain) they stop at once: what runs is dropped, partitions are
/// released with what was settled, and nothing tells whether that worked.
#[must_use = "handlers stop when their workers are dropped"]
pub struct Workers {
    members: Vec<Member>,
    /// Groups that exist for this process only.
    ephemeral: Vec<(AnyAdmin, Group)>,
}

/// One member of a group: the task of its engine.
pub(crate) struct Member {
    task: JoinHandle<DrainReport>,
    watch: AbortHandle,
    commands: mpsc::UnboundedSender<Command>,
    status: Arc<Status>,
    stuck: Arc<AtomicBool>,
}

impl Member {
    pub(crate) fn spawn(
        engine: Engine,
        commands: mpsc::UnboundedSender<Command>,
        status: Arc<Status>,
        control: AnyControl,
        patience: Duration,
    ) -> Self {
        let task = tokio::spawn(engine.run());
        let stuck = Arc::new(AtomicBool::new(false));
        let watched = watch(
            task.abort_handle(),
            Arc::clone(&status),
            control,
            patience,
            Arc::clone(&stuck),
        );
        let watch = tokio::spawn(watched).abort_handle();
        Self {
            task,
            watch,
            commands,
            status,
            stuck,
        }
    }
}

/// Gives the member's partitions up once a handler has blocked its thread for too long: the task
/// itself cannot, since it is the one that is blocked. It needs a runtime of several threads.
async fn watch(
    task: tokio::task::AbortHandle,
    status: Arc<Status>,
    control: AnyControl,
    patience: Duration,
    stuck: Arc<AtomicBool>,
) {
    let look = (patience / 4).clamp(Duration::from_millis(10), Duration::from_secs(5));
    while !task.is_finished() {
        tokio::time::sleep(look).await;
        if status.turn_lasts() < patience {
            continue;
        }
        stuck.store(true, Ordering::Relaxed);
        tracing::error!(
            ?patience,
            "a handler blocks its thread; its partitions are given up"
        );
        if let Err(error) = control.close(Duration::ZERO).await {
            tracing::error!(%error, "the stuck member could not leave; its lease will lapse");
        }
        return;
    }
}

impl Workers {
    pub(crate) fn new(ephemeral: Option<(AnyAdmin, Group)>) -> Self {
        Self {
            members: Vec::new(),
            ephemeral: ephemeral.into_iter().collect(),
        }
    }

    pub(crate) fn add(&mut self, member: Member) {
        self.members.push(member);
    }

    /// Joins the lifecycles: both drain together.
    pub fn and(mut self, mut other: Self) -> Self {
        self.members.append(&mut other.members);
        self.ephemeral.append(&mut other.ephemeral);
        self
    }

    /// What the groups have done since they started, and what they hold now.
    #[must_use]
    pub fn stats(&self) -> GroupStats {
        let mut sum = GroupStats::default();
        for member in &self.members {
            sum.add(&member.status.stats());
        }
        sum
    }

    /// Whether every member runs and none is stuck in a handler that blocks its thread.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let well =
            |member: &Member| !member.task.is_finished() && !member.stuck.load(Ordering::Relaxed);
        self.members.iter().all(well)
    }

    /// Starts no more events until [`resume`](Self::resume); what runs goes on. Partitions stay
    /// owned and retries wait.
    pub fn pause(&self) {
        self.set_paused(true);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.set_paused(false);
    }

    /// Takes no more events, lets what runs finish, stores checkpoints and leaves the groups; at
    /// the deadline what still runs is dropped and named in the report. Events that wait or are
    /// held are left to the next owner at once.
    ///
    /// # Errors
    /// If a member could not be ended in order.
    ///
    /// # Cancellation
    /// Dropped, the members go on draining until the deadline.
    pub async fn drain(self, deadline: Duration) -> Result<DrainReport> {
        self.tell(|| Command::Drain(deadline));
        let mut sum = DrainReport::default();
        for member in self.members {
            sum.add(member.task.await.map_err(|cause| {
                Error::new(ErrorKind::Closed, "drain", "a member ended out of order").because(cause)
            })?);
        }
        for (admin, group) in self.ephemeral {
            admin.delete_group(&group).await?;
        }
        Ok(sum)
    }

    /// Waits until a member ends by itself, which only an error makes it do.
    ///
    /// # Cancellation
    /// A dropped wait changes nothing.
    pub async fn failed(&mut self) -> Error {
        let tasks = self.members.iter_mut().map(|member| &mut member.task);
        let (ended, at, _) = futures_util::future::select_all(tasks).await;
        self.members.swap_remove(at);
        let error = ended.ok().and_then(|report| report.error);
        error.unwrap_or_else(|| Error::closed("consume"))
    }

    /// Ends everything where it stands, as if the process had died: nothing is released, and the
    /// partitions are free once their leases lapse.
    pub fn abort(self) {
        for member in &self.members {
            // A turn that is under way must not take the end of its commands for a drain.
            member.status.abort();
            member.task.abort();
            // It holds the control too: a dead process holds nothing.
            member.watch.abort();
        }
    }

    fn set_paused(&self, paused: bool) {
        for member in &self.members {
            member.status.pause(paused);
        }
        self.tell(|| Command::Regulate);
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for member in &self.members {
            // A member that has ended needs to hear nothing.
            let _ = member.commands.send(command());
        }
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Workers({} members)", self.members.len())
    }
}
