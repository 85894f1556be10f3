//! The inbox, beside the handler and inside its transaction.

use std::time::Duration;

use interline_core::{Claim, EventId, Inbox as _};
use interline_postgres::native::Inbox;

use crate::support::{bare, connect, eventually, group, within};

const LEASE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_claimed_once_and_done_for_good() {
    let (one, two) = (Inbox::new(&connect().await), Inbox::new(&connect().await));
    let (group, other) = (group("inbox"), group("other"));
    let id = EventId::new().identity("/a");
    assert_eq!(one.claim(&group, id, LEASE).await.unwrap(), Claim::Fresh);
    assert_eq!(two.claim(&other, id, LEASE).await.unwrap(), Claim::Fresh);
    let Claim::Busy(left) = two.claim(&group, id, LEASE).await.unwrap() else {
        panic!("claimed twice");
    };
    assert!(left <= LEASE && left > LEASE / 2, "{left:?}");
    one.release(&group, id).await.unwrap();
    assert_eq!(two.claim(&group, id, LEASE).await.unwrap(), Claim::Fresh);
    two.done(&group, id).await.unwrap();
    two.done(&group, id).await.unwrap();
    assert_eq!(one.claim(&group, id, LEASE).await.unwrap(), Claim::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_lapses_by_itself() {
    let inbox = Inbox::new(&connect().await);
    let (group, id) = (group("lapse"), EventId::new().identity("/a"));
    let short = Duration::from_millis(200);
    assert_eq!(inbox.claim(&group, id, short).await.unwrap(), Claim::Fresh);
    eventually(|| async { inbox.claim(&group, id, LEASE).await.unwrap() == Claim::Fresh }).await;
    assert!(matches!(inbox.claim(&group, id, LEASE).await.unwrap(), Claim::Busy(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_in_the_handlers_transaction_is_there_with_its_effect_or_not_at_all() {
    let inbox = Inbox::new(&connect().await);
    let (group, id) = (group("enter"), EventId::new().identity("/a"));
    let mut first = bare().await;
    let undone = first.transaction().await.unwrap();
    assert!(inbox.enter(&undone, &group, id).await.unwrap());
    undone.rollback().await.unwrap();
    // Two at the same time: the second waits for the end of the first, and then has nothing to do.
    let done = first.transaction().await.unwrap();
    assert!(inbox.enter(&done, &group, id).await.unwrap());
    let second = tokio::spawn({
        let (inbox, group) = (inbox.clone(), group.clone());
        async move {
            let mut client = bare().await;
            let transaction = client.transaction().await.unwrap();
            inbox.enter(&transaction, &group, id).await.unwrap()
        }
    });
    let waits = "select exists (select from pg_locks l join pg_stat_activity a using (pid)
        where not l.granted and a.query like '%enter%' and a.state = 'active')";
    let looking = bare().await;
    eventually(|| async { looking.query_one(waits, &[]).await.unwrap().get(0) }).await;
    done.commit().await.unwrap();
    assert!(!within(second).await.unwrap());
    assert_eq!(inbox.claim(&group, id, LEASE).await.unwrap(), Claim::Done);
}
