//! A handler that blocks its thread.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use interline_reliability::Policy;
use tokio::runtime::{Builder, Handle};

use super::{scenario, two_members};
use crate::scene::{Run, Runs, Scene, What, noting};
use crate::{Breach, Harness, Scenario, Verdict, check};

pub(crate) const ALL: &[Scenario] = &[scenario!(a_blocked_member_is_given_up, two_members)];

/// A handler that blocks its thread makes its member give its partitions up, and another member
/// takes them over.
async fn a_blocked_member_is_given_up(harness: &Harness) -> Verdict {
    // On a runtime of its own: the thread that is blocked must not be the one whose clock and
    // watchdog have to go on.
    std::thread::scope(|scope| {
        let scenario = scope.spawn(|| {
            let runtime = Builder::new_multi_thread()
                .worker_threads(3)
                .enable_all()
                .build();
            let runtime = runtime.map_err(|error| Breach::new(error.to_string()))?;
            let (over, pulse) = mpsc::channel();
            let handle = runtime.handle().clone();
            scope.spawn(move || keep_awake(&handle, &pulse));
            let verdict = runtime.block_on(blocked(harness));
            drop(over);
            verdict
        });
        let panicked = |_| Err(Breach::new("the scenario panicked"));
        scenario.join().unwrap_or_else(panicked)
    })
}

/// Wakes a thread of the runtime now and then. One of them serves sockets and timers for all; if
/// it is the one that is blocked, nobody else does until another is woken from outside.
fn keep_awake(runtime: &Handle, pulse: &mpsc::Receiver<()>) {
    const PAUSE: Duration = Duration::from_millis(50);
    while pulse.recv_timeout(PAUSE) == Err(mpsc::RecvTimeoutError::Timeout) {
        runtime.spawn(async {});
    }
}

async fn blocked(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let mut policy = Policy::default();
    policy.timeouts.handler = Duration::from_millis(200);
    policy.timeouts.stuck = Duration::from_millis(300);
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let block = move |_: Run| {
        let released = Arc::clone(&released);
        async move {
            // An error means that the scenario is over, which ends the wait as well.
            let _ = released
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv();
            Ok(())
        }
    };
    let runs = Runs::default();
    let group = scene.builder().policy(policy);
    let stuck = group.on_raw("*", noting(&runs, 0, block)).start().await?;
    scene.publish(&[("key".to_owned(), 0)]).await?;
    let began = |all: &[Run]| (!all.is_empty()).then_some(());
    harness.until("the handler to begin", &runs, began).await?;

    let go_on = noting(&runs, 1, |_| async { Ok(()) });
    let next = scene.other().await?.on_raw("*", go_on).start().await?;
    let taken = |all: &[Run]| {
        let done = |run: &Run| run.member == 1 && run.what == What::Succeeded;
        all.iter().any(done).then_some(())
    };
    let seen = harness
        .until("another member to take over", &runs, taken)
        .await;
    let healthy = stuck.is_healthy();
    // Whatever was found, the thread must come free, or the runtime could not end.
    drop(release);
    seen?;
    check!(!healthy, "a blocked member calls itself healthy");
    stuck.abort();
    scene.finish(next).await?;
    Ok(())
}
