//! The task of a publisher: answers, connections and deadlines.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, StatusCode};
use futures_util::StreamExt as _;
use interline_core::ErrorKind;
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Shared;
use super::queue::Answer;
use crate::error::{Refusal, error, protocol};
use crate::link::Session;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(250);

/// How long what was refused for now is left alone.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers that are taken at a time.
const CHUNK: usize = 256;

/// Why a connection is no longer served.
enum End {
    /// It broke.
    Broken,
    /// Nothing is left to do.
    Done,
}

pub(super) async fn run(shared: Arc<Shared>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let Some(session) = connected(&shared, &mut ticks).await else {
            break;
        };
        let end = serve(&shared, &session, &mut ticks).await;
        shared.lock().end();
        if matches!(end, End::Done) {
            break;
        }
    }
    // Whoever still waits is told that nobody will send any more.
    let mut queue = shared.lock();
    let mark = queue.mark();
    queue.give_up(mark);
    shared.release(queue);
}

/// Waits for a connection; nothing if the publisher ends before.
async fn connected(shared: &Shared, ticks: &mut Interval) -> Option<Session> {
    let session = shared.hub.main.session("publish");
    tokio::pin!(session);
    loop {
        tokio::select! {
            session = &mut session => return session.ok(),
            _ = ticks.tick() => sweep(shared),
            () = shared.ending.notified() => {}
        }
        let queue = shared.lock();
        if queue.is_ending && queue.is_empty() {
            return None;
        }
    }
}

fn sweep(shared: &Shared) {
    let mut queue = shared.lock();
    queue.sweep(shared.publish_timeout);
    queue.pump();
    shared.release(queue);
}

/// Serves one connection until it breaks or nothing is left to do.
async fn serve(shared: &Shared, session: &Session, ticks: &mut Interval) -> End {
    let inbox = session.client.new_inbox();
    let mut denials = session.denials();
    let Ok(answers) = session.client.subscribe(format!("{inbox}.*")).await else {
        session.died().await;
        return End::Broken;
    };
    let mut answers = answers.ready_chunks(CHUNK);
    let queue = {
        let mut queue = shared.lock();
        queue.begin(session.clone(), inbox);
        queue
    };
    shared.release(queue);
    loop {
        tokio::select! {
            chunk = answers.next() => match chunk {
                Some(chunk) => take(shared, &chunk),
                None => return End::Broken,
            },
            () = session.died() => return End::Broken,
            what = denials.recv() => deny(shared, what),
            _ = ticks.tick() => sweep(shared),
            () = shared.ending.notified() => {}
            () = shared.hub.settings.closed(), if shared.lock().is_empty() => return End::Done,
        }
        resume(shared).await;
        let queue = shared.lock();
        if queue.is_ending && queue.is_empty() {
            return End::Done;
        }
    }
}

fn take(shared: &Shared, chunk: &[Message]) {
    let mut queue = shared.lock();
    for message in chunk {
        let number = message.subject.rsplit_once('.');
        let number = number.and_then(|(_, number)| number.parse().ok());
        if let Some(number) = number {
            queue.answer(number, answer(message));
        }
    }
    queue.trim();
    queue.pump();
    shared.release(queue);
}

fn deny(shared: &Shared, what: Result<Arc<str>, broadcast::error::RecvError>) {
    if let Ok(what) = what {
        let mut queue = shared.lock();
        queue.deny(&what);
        queue.pump();
        shared.release(queue);
    }
}

/// Once nothing is on its way, decides about what was refused or not answered.
async fn resume(shared: &Shared) {
    let Some(topics) = shared.lock().held() else {
        return;
    };
    for topic in topics {
        // A subject that no stream takes may mean that the topic was deleted.
        if let Err(missing) = shared.hub.ask("publish", &topic).await
            && missing.kind() == ErrorKind::NotFound
        {
            shared.lock().reject_held(&topic, || missing.again());
        }
    }
    let mut queue = shared.lock();
    queue.resume(PAUSE);
    shared.release(queue);
}

/// What a stream answers to an event.
#[derive(Deserialize)]
struct Ack<'a> {
    #[serde(default)]
    error: Option<Refusal>,
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    /// The batch that was stored; `seq` is then that of its last event.
    #[serde(borrow, default)]
    batch: Cow<'a, str>,
    #[serde(default)]
    count: usize,
}

fn answer(message: &Message) -> Answer<'_> {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Answer::NotNow(error(
            ErrorKind::Unavailable,
            "publish",
            "no stream takes the event",
            "check that JetStream is up and that the topic was not deleted",
        ));
    }
    match serde_json::from_slice::<Ack<'_>>(&message.payload) {
        Ok(Ack {
            error: Some(refusal),
            ..
        }) if refusal.is_transient() => Answer::NotNow(refusal.error("publish")),
        Ok(Ack {
            error: Some(refusal),
            ..
        }) => Answer::Rejected(refusal.error("publish")),
        Ok(ack) if !ack.batch.is_empty() => Answer::StoredAll {
            stream: ack.stream,
            last: ack.seq,
            batch: ack.batch,
            count: ack.count,
        },
        Ok(ack) => Answer::Stored {
            stream: ack.stream,
            sequence: ack.seq,
            is_copy: ack.duplicate,
        },
        Err(cause) => Answer::Rejected(protocol("publish", cause)),
    }
}
