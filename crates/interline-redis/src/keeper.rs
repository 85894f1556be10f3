//! What goes on beside the handles: the server is asked again what it promises, and old events
//! are removed.

use std::sync::{Arc, Weak};
use std::time::Duration;

use interline_core::Result;
use tokio::time::{Instant, timeout_at};

use crate::probe::Probe;
use crate::server::Server;
use crate::topics;

/// How often a server is asked again. Whoever changes its settings does not tell.
const ASK: Duration = Duration::from_secs(10);

/// How often old events are removed from a topic, by whichever client comes first.
const TRIM: Duration = Duration::from_secs(60);

/// Works for `server` as long as it is there.
pub(crate) async fn run(server: Weak<Server>) {
    let mut health = match server.upgrade() {
        Some(server) => server.link.health(),
        None => return,
    };
    let mut trimmed = Instant::now();
    loop {
        let connects = health.borrow_and_update().connects;
        // Another number of connects may mean another server, or one that was started anew.
        let anew = health.wait_for(|health| health.is_up() && health.connects != connects);
        if let Ok(Err(_)) = timeout_at(Instant::now() + ASK, anew).await {
            return;
        }
        let Some(server) = server.upgrade() else {
            return;
        };
        if !server.link.is_up() {
            continue;
        }
        probe(&server).await;
        if trimmed.elapsed() >= TRIM {
            trimmed = Instant::now();
            trim(&server).await;
        }
    }
}

async fn probe(server: &Arc<Server>) {
    match Probe::ask(&server.link, &server.resolved).await {
        Ok(probe) => server.probed(probe),
        Err(failed) => {
            tracing::debug!(target: "interline::redis", %failed, "the server was not asked");
        }
    }
}

async fn trim(server: &Arc<Server>) {
    if let Err(failed) = trim_all(server).await {
        tracing::debug!(target: "interline::redis", %failed, "old events were not removed");
    }
}

async fn trim_all(server: &Arc<Server>) -> Result<()> {
    for topic in topics::names(server, "trim").await? {
        if let Some(facts) = server.ask("trim", &topic).await? {
            topics::trim(server, &facts, TRIM).await?;
        }
    }
    Ok(())
}
