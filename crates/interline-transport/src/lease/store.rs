//! What a transport implements to have partitions shared by lease.

use std::fmt::{self, Debug};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use interline_core::{Committed, Fence, Group, Progress, Result, Start, SubscribeSpec, Topic};

use super::Source;

/// A transport whose groups are shared by lease: where the leases are, and how to read.
///
/// [`subscribe`](super::subscribe) makes the feed and the control of a member from it.
pub trait Leased: Debug + Send + Sync + 'static {
    /// Where a group keeps its leases of one topic.
    type Store: LeaseStore;
    /// The reading of a member.
    type Source: Source;

    /// The scheme of the transport, for errors.
    fn scheme(&self) -> &'static str;

    /// The topics that exist and that `spec` covers ([`SubscribeSpec::covers`]), return topics
    /// among them. It is asked again every [`Timing::topics`](super::Timing::topics): a topic
    /// that is in the answer for the first time is read from then on, one that is no longer in it
    /// was deleted.
    ///
    /// # Errors
    /// A transient one is waited out; another ends the feed.
    fn topics(&self, spec: &SubscribeSpec) -> impl Future<Output = Result<Vec<Topic>>> + Send;

    /// Where `group` keeps its leases of `topic`. No I/O.
    fn store(&self, group: &Group, topic: &Topic) -> Self::Store;

    /// A reading without any partition. No I/O.
    fn source(&self) -> Self::Source;
}

/// Where one group keeps its leases and checkpoints of one topic.
///
/// The store keeps time, fences and whoever may write; who should have what is decided by the
/// members. All durations are by the store's clock, and every call
/// is one step: nobody sees half of it. Where the store has no clock of its own, what stands for
/// it must not run ahead of it, or a lease would end early.
///
/// # Errors
/// Transient ones are tried again by the caller. [`NotFound`](interline_core::ErrorKind::NotFound)
/// says that the topic was deleted. Any other ends the feed.
///
/// # Cancellation
/// Every call may be dropped and may be carried out all the same, also late: whatever it writes
/// about a partition is written only if the fence still stands.
pub trait LeaseStore: Debug + Send + Sync + 'static {
    /// Makes the group known on the topic, with a checkpoint at `start` in every partition. If it
    /// is known already nothing happens; of two that begin at a time, one counts for all
    /// partitions.
    ///
    /// # Errors
    /// [`PositionLost`](interline_core::ErrorKind::PositionLost) for a place outside the
    /// partition.
    fn begin(&self, start: &Start) -> impl Future<Output = Result<()>> + Send;

    /// Shows that `me` lives, renews what it owns (also what has expired and was not taken), and
    /// tells how the group stands.
    fn look(&self, me: &MemberId, leaving: bool) -> impl Future<Output = Result<Picture>> + Send;

    /// Takes partitions that still stand as they were seen, whoever owns them, for a lease from
    /// now. One answer each, in order; `None` if something has changed meanwhile. The fence of a
    /// grant is higher than every earlier one of the partition.
    fn claim(
        &self,
        me: &MemberId,
        seen: Vec<Seen>,
    ) -> impl Future<Output = Result<Vec<Option<Grant>>>> + Send;

    /// Notes of partitions that `me` owns under these fences that they will be released, so that
    /// [`Lease::passing`] says so.
    fn revoke(
        &self,
        me: &MemberId,
        owned: Vec<(u32, Fence)>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Stores checkpoints of partitions that `me` owns under these fences, expired or not. With
    /// `release` the partition is free from then on, and its [`Lease::free_for`] begins. One
    /// answer each, in order: `Applied`, or `Stale` if member or fence are not those that the
    /// store has.
    fn commit(
        &self,
        me: &MemberId,
        entries: Vec<Entry>,
        release: bool,
    ) -> impl Future<Output = Result<Vec<Committed>>> + Send;

    /// Removes `me` from the members; what it still owns is free from then on. A member that is
    /// not known is fine.
    fn leave(&self, me: &MemberId) -> impl Future<Output = Result<()>> + Send;
}

/// A member of a group, as its stores know it: `instance.session`, characters `A-Z a-z 0-9 - _ .`
/// only.
///
/// The session tells a process from the one before it under the same instance; it grows.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(Arc<str>);

impl MemberId {
    /// Reads a member as a store has written it.
    pub fn stored(text: impl AsRef<str>) -> Self {
        Self(text.as_ref().into())
    }

    /// Session `session` of `instance`. Its last 12 bits should be random: they tell two apart
    /// that start at the same time, and are kept by its successor in the same process.
    #[must_use]
    pub fn new(instance: &str, session: u64) -> Self {
        Self(format!("{instance}.{session}").into())
    }

    /// The same process under a session that is higher than `session`.
    pub(super) fn after(&self, session: u64) -> Self {
        let next = (session >> 12) + 1;
        Self::new(self.instance(), next << 12 | self.session() & 0xfff)
    }

    /// As it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The member without its session: the same across restarts, and what people are shown.
    ///
    /// ```
    /// use interline_transport::lease::MemberId;
    ///
    /// assert_eq!(MemberId::stored("billing-1.1700000000000").instance(), "billing-1");
    /// ```
    #[must_use]
    pub fn instance(&self) -> &str {
        self.0.rsplit_once('.').map_or(&self.0, |(name, _)| name)
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> u64 {
        let session = self.0.rsplit_once('.').map(|(_, session)| session.parse());
        session.and_then(Result::ok).unwrap_or(0)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a group stands on a topic.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// The members whose time is not over and who are not leaving, in any order.
    pub live: Vec<MemberId>,
    /// Every partition of the topic, by its number. Empty if the group is not known (any more).
    pub partitions: Vec<Lease>,
    /// How long until the next member or lease expires that is not of who looks.
    pub next_expiry: Option<Duration>,
}

/// Who has a partition.
#[derive(Clone, Debug, Default)]
pub struct Lease {
    /// Its owner, also if that one is leaving; `None` if there is none or its time is over.
    pub owner: Option<MemberId>,
    /// The fence of the last grant, 0 before the first.
    pub fence: Fence,
    /// Its owner was told to release it.
    pub passing: bool,
    /// For how long it has had no owner; zero if it has one.
    pub free_for: Duration,
    /// See [`Seen::token`].
    pub token: u64,
}

/// A partition as it was seen in a [`Picture`], to be claimed if it still stands so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The number of the partition.
    pub index: u32,
    /// Its fence.
    pub fence: Fence,
    /// What changes, at the latest, when a lease that was over is renewed: its time of expiry, or
    /// the revision where it is stored. It may change more often.
    pub token: u64,
}

/// A partition that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The number of the partition.
    pub index: u32,
    /// The fence of the new ownership.
    pub fence: Fence,
    /// The stored progress, or that of the group's beginning.
    pub progress: Progress,
}

/// A checkpoint of a partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The number of the partition.
    pub index: u32,
    /// The fence under which it is owned.
    pub fence: Fence,
    /// The progress; `None`, which only a release may have, leaves the stored one as it is.
    pub progress: Option<Progress>,
}
