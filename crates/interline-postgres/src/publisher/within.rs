//! Publishing in a transaction of the caller.

use std::collections::HashSet;
use std::sync::Arc;

use interline_core::{ErrorKind, Outcome, Outgoing, Receipt, Result};
use interline_transport::window::Places;
use tokio::time::Instant;
use tokio_postgres::Transaction;

use super::call::Call;
use super::columns::Batch;
use super::{insert, rows};
use crate::error::{error, missing_topic, postgres};
use crate::transport::Transport;

/// Publishes events in a transaction of the caller: they are there if it commits, and were never
/// there if it does not.
///
/// The outcomes are `Stored`, with a position that counts once the transaction is committed, or
/// `Duplicate`. The durability is that of the caller's commit. Readers are not woken, since nobody
/// here knows of the commit: call [`wake`] after it, or they find the events at their
/// next look (`poll`, 50 ms).
///
/// ```no_run
/// use interline_core::{Envelope, Kind, Outgoing, Topic};
///
/// # async fn run(client: &mut tokio_postgres::Client) -> Result<(), Box<dyn std::error::Error>> {
/// let transport = interline_postgres::connect("postgres://localhost/shop").await?;
/// let transaction = client.transaction().await?;
/// transaction.execute("update orders set paid = true where id = 1", &[]).await?;
/// let paid = Envelope::builder(Kind::new("/shop", "shop.order.paid")?).key("1").build()?;
/// let event = Outgoing::new(Topic::new("orders")?, paid);
/// interline_postgres::native::publish_in(&transport, &transaction, vec![event]).await?;
/// transaction.commit().await?;
/// interline_postgres::native::wake(&transport);
/// # Ok(()) }
/// ```
///
/// # Ordering
/// Events of one key are read in the order of the *calls*, not of the commits: lock or change the
/// row that an event is about first, then publish. A transaction that stays open after publishing
/// holds back every reader of the server's writing transactions, on every topic.
///
/// # Errors
/// The first event that breaks a limit, a topic that is missing, or what the server says. The
/// transaction is to be rolled back then.
///
/// # Cancellation
/// A dropped call may have published in the transaction all the same: roll it back.
pub async fn publish_in(
    transport: &Transport,
    transaction: &Transaction<'_>,
    events: Vec<Outgoing>,
) -> Result<Vec<Outcome>> {
    let link = &transport.link;
    link.check_open("publish")?;
    let known = rows::topics(link, &events).await;
    let mut parts = rows::parts(link, events, &known, 0);
    for outcome in parts.outcomes.iter_mut().filter_map(Option::take) {
        let _ = outcome.into_result()?;
    }
    // A copy within the batch is one of the event before it.
    let mut seen = HashSet::new();
    for (row, outcome) in parts.rows.iter_mut().zip(&mut parts.outcomes) {
        if !seen.insert((row.topic, row.event)) {
            row.topic = 0;
            *outcome = Some(Outcome::Duplicate { position: None });
        }
    }
    let (sender, receipt) = Receipt::channel(parts.events.len());
    let call = Arc::new(Call::open(
        0,
        parts,
        Instant::now(),
        Places::default(),
        sender,
    ));
    let chunks = Call::chunks(&call);
    let batch = Batch {
        events: chunks.iter().map(super::call::Chunk::len).sum(),
        chunks,
    };
    let mut outcomes = Vec::with_capacity(batch.events);
    if batch.events > 0 {
        let sql = link.resolved.schema.sql(&insert::alone_sql());
        let told = insert::within(transaction, &sql, &batch).await;
        let told = told.map_err(|cause| postgres("publish", cause))?;
        let odd = "the server answered in another form than asked for";
        let told = told.ok_or_else(|| {
            let remedy = "check that nothing stands between client and server that changes answers";
            error(ErrorKind::Protocol, "publish", odd, remedy)
        })?;
        for ((call, at), place) in batch.iter().zip(1..) {
            if told.absent.contains(&place) {
                return Err(missing_topic("publish", &call.events[at].topic));
            }
            outcomes.push((at, told.outcome(link, &call.rows[at], place)));
        }
    }
    if let Some(settled) = call.settle(outcomes) {
        settled.sender.send(settled.outcomes);
    }
    Ok(receipt.await)
}

/// Wakes readers of this process and of others: something was committed that [`publish_in`] or
/// plain SQL has published. It returns at once; many calls together wake once.
pub fn wake(transport: &Transport) {
    transport.link.horizon.published();
}
