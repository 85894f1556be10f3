//! What groups have handled before, in the database.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use interline_core::{BoxFuture, Claim, Group, Result};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use crate::error::postgres;
use crate::link::Link;
use crate::schema::Schema;
use crate::transport::Transport;

/// An inbox in the database: it outlives the process, and is shared by all members of a group. It
/// remembers for 7 to 14 days.
///
/// As [`interline_core::Inbox`] it suppresses nearly all repetitions: an event is claimed, handled,
/// and then marked. With [`enter`](Self::enter) the mark is part of the handler's own transaction
/// in the same database: then the effect and the mark are there together or not at all, and the
/// effect happens once.
#[derive(Clone)]
pub struct Inbox {
    link: Arc<Link>,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inbox in {}", self.link.resolved.place)
    }
}

impl Inbox {
    /// The inbox in the schema of `transport`.
    #[must_use]
    pub fn new(transport: &Transport) -> Self {
        Self {
            link: Arc::clone(&transport.link),
        }
    }

    /// Marks the event `id` as handled by `group` in the handler's transaction; `false` if it was
    /// handled before, and then there is nothing to do. A second transaction for the same event
    /// waits until the first one ends.
    ///
    /// `id` is the event's identity: `envelope.id().identity(envelope.source())`. The transaction
    /// has to be in the database and namespace of this inbox.
    ///
    /// # Errors
    /// What the server says; the transaction is to be rolled back then.
    pub async fn enter(
        &self,
        transaction: &Transaction<'_>,
        group: &Group,
        id: Uuid,
    ) -> Result<bool> {
        let sql = self.schema().sql("select {s}.enter($1, $2)");
        let row = transaction.query_one(&sql, &[&group.as_str(), &id]).await;
        Ok(row.map_err(|error| postgres("enter inbox", error))?.get(0))
    }

    fn schema(&self) -> &Schema {
        &self.link.resolved.schema
    }

    async fn call(
        &self,
        operation: &'static str,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>> {
        let sql = self.schema().sql(statement);
        let calling = self.link.ask(operation, async |client| {
            let failed = |error| postgres(operation, error);
            let statement = client.prepare_cached(&sql).await.map_err(failed)?;
            client
                .query_opt(&statement, parameters)
                .await
                .map_err(failed)
        });
        calling.await
    }
}

impl interline_core::Inbox for Inbox {
    fn claim<'a>(
        &'a self,
        group: &'a Group,
        id: Uuid,
        lease: Duration,
    ) -> BoxFuture<'a, Result<Claim>> {
        Box::pin(async move {
            let millis = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX >> 20);
            let sql = "select {s}.claim_event($1, $2, $3)";
            let row = self
                .call("claim", sql, &[&group.as_str(), &id, &millis])
                .await?;
            Ok(match row.map_or(0, |row| row.get::<_, i64>(0)) {
                0 => Claim::Fresh,
                -1 => Claim::Done,
                busy => Claim::Busy(Duration::from_millis(busy.unsigned_abs())),
            })
        })
    }

    fn done<'a>(&'a self, group: &'a Group, id: Uuid) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let sql = "select {s}.event_done($1, $2)";
            let done = self.call("mark done", sql, &[&group.as_str(), &id]).await;
            done.map(|_| ())
        })
    }

    fn release<'a>(&'a self, group: &'a Group, id: Uuid) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let sql = "delete from {s}.inbox_claims where grp = $1 and event = $2";
            let released = self.call("release claim", sql, &[&group.as_str(), &id]).await;
            released.map(|_| ())
        })
    }
}
