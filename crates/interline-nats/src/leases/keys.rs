//! Under which keys a group keeps what concerns a topic.

use std::collections::BTreeSet;

use interline_core::{Group, Result, Topic};
use interline_transport::lease::MemberId;
use serde_json::json;

use super::bucket::subjects;
use super::row::{Beginning, Row};
use crate::api::StoredMessage;
use crate::error::code;
use crate::link::Session;
use crate::names::{Names, bucket_stream, bucket_subject, token, untoken};

/// The part of a key that stands for where the group begins, in the place of a partition.
pub(crate) const START: &str = "start";

/// In front of a member that takes partitions, and of one that leaves.
const LIVE: &str = "live";
const LEAVING: &str = "leaving";

/// The keys of one group and topic.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    leases: String,
    members: String,
    leases_stream: String,
    members_stream: String,
}

impl Keys {
    pub(crate) fn new(names: &Names, group: &Group, topic: &Topic) -> Self {
        let key = Names::key(group, topic);
        Self {
            leases: bucket_subject(&names.leases(), &key),
            members: bucket_subject(&names.members(), &key),
            leases_stream: bucket_stream(&names.leases()),
            members_stream: bucket_stream(&names.members()),
        }
    }

    pub(crate) fn members_stream(&self) -> &str {
        &self.members_stream
    }

    pub(crate) fn row_subject(&self, index: u32) -> String {
        format!("{}.{index}", self.leases)
    }

    pub(crate) fn start_subject(&self) -> String {
        format!("{}.{START}", self.leases)
    }

    /// All subjects of the group and topic in the bucket of members.
    pub(crate) fn members_filter(&self) -> String {
        format!("{}.>", self.members)
    }

    pub(crate) fn member(&self, me: &MemberId, leaving: bool) -> String {
        let state = if leaving { LEAVING } else { LIVE };
        format!("{}.{state}.{}", self.members, token(me.as_str()))
    }

    /// The row of a partition with its revision, perhaps a little old.
    pub(crate) async fn row(
        &self,
        session: &Session,
        operation: &'static str,
        index: u32,
    ) -> Result<Option<(u64, Row)>> {
        let subject = self.row_subject(index);
        let found = session
            .last(operation, &self.leases_stream, &subject)
            .await?;
        found
            .map(|stored| {
                let row = Row::parse(operation, &stored.value, stored.sequence)?;
                Ok((stored.sequence, row))
            })
            .transpose()
    }

    /// The row of a partition with its revision, as it stands now.
    pub(crate) async fn row_now(
        &self,
        session: &Session,
        operation: &'static str,
        index: u32,
    ) -> Result<Option<(u64, Row)>> {
        let what = format!("STREAM.MSG.GET.{}", self.leases_stream);
        let body = json!({ "last_by_subj": self.row_subject(index) });
        match session.ask::<StoredMessage>(operation, &what, &body).await {
            Ok(StoredMessage { message }) => {
                let row = Row::parse(operation, &message.payload(), message.seq)?;
                Ok(Some((message.seq, row)))
            }
            Err(failed) if failed.is(code::NO_MESSAGE) => Ok(None),
            Err(failed) => Err(failed.error(operation)),
        }
    }

    /// Where the group begins, with the revision; nothing if it is not known.
    pub(crate) async fn beginning(
        &self,
        session: &Session,
        operation: &'static str,
    ) -> Result<Option<(u64, Beginning)>> {
        let subject = self.start_subject();
        let found = session
            .last(operation, &self.leases_stream, &subject)
            .await?;
        found
            .map(|stored| Ok((stored.sequence, Beginning::parse(operation, &stored.value)?)))
            .transpose()
    }

    /// The members that live: those that take partitions, and those that leave.
    pub(crate) async fn members(
        &self,
        session: &Session,
        operation: &'static str,
    ) -> Result<(BTreeSet<MemberId>, BTreeSet<MemberId>)> {
        let filter = self.members_filter();
        let (mut live, mut leaving) = (BTreeSet::new(), BTreeSet::new());
        for subject in subjects(session, operation, &self.members_stream, &filter).await? {
            let mut tokens = subject.rsplit('.');
            let (Some(member), Some(state)) = (tokens.next(), tokens.next()) else {
                continue;
            };
            let member = MemberId::stored(untoken(member));
            if state == LIVE {
                live.insert(member);
            } else {
                leaving.insert(member);
            }
        }
        // For a moment one that has begun to leave is listed under both.
        live.retain(|member| !leaving.contains(member));
        Ok((live, leaving))
    }
}
