//! What groups have handled, remembered by the server.

use std::time::Duration;

use interline_core::EventId;
use interline_core::{Claim, Inbox};
use interline_redis::native;

use super::support::{connect, group, within};

#[tokio::test(flavor = "multi_thread")]
async fn the_inbox_is_shared_and_forgets() {
    let (one, other) = (connect().await, connect().await);
    let day = Duration::from_secs(86_400);
    let (one, other) = (
        native::Inbox::new(&one, day),
        native::Inbox::new(&other, day),
    );
    let (group, stranger) = (group("inbox"), group("stranger"));
    let id = EventId::new().identity("/test");
    let lease = Duration::from_secs(60);
    assert_eq!(one.claim(&group, id, lease).await.unwrap(), Claim::Fresh);
    match other.claim(&group, id, lease).await.unwrap() {
        Claim::Busy(left) => assert!(left <= lease && left > lease / 2, "{left:?}"),
        claim => panic!("{claim:?}"),
    }
    assert_eq!(
        other.claim(&stranger, id, lease).await.unwrap(),
        Claim::Fresh
    );
    other.release(&group, id).await.unwrap();
    assert_eq!(other.claim(&group, id, lease).await.unwrap(), Claim::Fresh);
    other.done(&group, id).await.unwrap();
    // What is done stays done, also if somebody gives an older claim back.
    one.release(&group, id).await.unwrap();
    assert_eq!(one.claim(&group, id, lease).await.unwrap(), Claim::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_and_a_mark_lapse() {
    let transport = connect().await;
    let short = Duration::from_millis(300);
    let inbox = native::Inbox::new(&transport, short);
    let (group, id) = (group("lapse"), EventId::new().identity("/test"));
    assert_eq!(inbox.claim(&group, id, short).await.unwrap(), Claim::Fresh);
    let until_fresh = || async {
        while inbox.claim(&group, id, short).await.unwrap() != Claim::Fresh {
            tokio::task::yield_now().await;
        }
    };
    within(until_fresh()).await;
    inbox.done(&group, id).await.unwrap();
    within(until_fresh()).await;
}
