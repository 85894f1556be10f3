//! The batches of one publisher to one topic: two on their way, in order, sent again under the
//! same number until they are answered or given up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fred::types::{Resp3Frame, Value};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt};
use interline_core::{Error, Outcome, Result, planted};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

use super::Core;
use super::batch::{Answer, Batch, Outcomes, Run, Session, timed_out};
use crate::error::error;
use crate::scripts::PUBLISH;
use crate::topics::Facts;

/// How many batches may be on their way: the server works on one while the next one comes.
const OVERLAP: usize = 2;

/// How long the server remembers a session that is not used.
pub(super) const LIFE: Duration = Duration::from_secs(3_600);

/// The shortest and the longest pause before a batch that the server refused for now is sent again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The events of one publisher for one topic.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) facts: Arc<Facts>,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    runs: VecDeque<Run>,
    /// The session, while nobody works with it.
    session: Option<Session>,
    /// A task works on this line.
    is_driven: bool,
    /// Its topic is another now: nothing is accepted any more.
    is_over: bool,
}

impl Line {
    pub(super) fn new(facts: Arc<Facts>) -> Self {
        Self {
            facts,
            state: Mutex::default(),
            arrived: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a run over; gives it back if the line is over.
    pub(super) fn push(self: &Arc<Self>, core: &Arc<Core>, run: Run) -> Result<(), Run> {
        let mut state = self.lock();
        if state.is_over {
            return Err(run);
        }
        state.runs.push_back(run);
        let begin = !std::mem::replace(&mut state.is_driven, true);
        drop(state);
        if begin {
            let driver = Driver::new(Arc::clone(self), Arc::clone(core));
            tokio::spawn(driver.run());
        } else {
            self.arrived.notify_one();
        }
        Ok(())
    }

    fn take(&self) -> Option<Batch> {
        Batch::take(&mut self.lock().runs)
    }

    fn session(&self) -> Option<Session> {
        self.lock().session.take()
    }

    /// Ends the work on the line; gives the session back if something has come meanwhile.
    fn rest(&self, session: Session) -> Option<Session> {
        let mut state = self.lock();
        if !state.runs.is_empty() {
            return Some(session);
        }
        state.is_driven = false;
        state.session = Some(session);
        None
    }

    /// Accepts nothing any more; what waits.
    fn end(&self) -> VecDeque<Run> {
        let mut state = self.lock();
        state.is_over = true;
        std::mem::take(&mut state.runs)
    }
}

type Sent = BoxFuture<'static, Result<Resp3Frame>>;

/// Works on a line until nothing is left to do.
struct Driver {
    line: Arc<Line>,
    core: Arc<Core>,
    session: Session,
    /// Batches without an answer, in order.
    open: VecDeque<Batch>,
    /// The calls of the open batches; none when they have to be sent again.
    on_the_way: FuturesOrdered<Sent>,
    /// The server does not have the script: send its text.
    by_text: bool,
    pause: Duration,
    /// What the server or the connection said last.
    last: Option<Error>,
}

impl Driver {
    fn new(line: Arc<Line>, core: Arc<Core>) -> Self {
        let session = line.session();
        Self {
            session: session.unwrap_or_else(|| core.new_session(&line.facts.topic)),
            line,
            core,
            open: VecDeque::new(),
            on_the_way: FuturesOrdered::new(),
            by_text: false,
            pause: Duration::ZERO,
            last: None,
        }
    }

    async fn run(mut self) {
        let core = Arc::clone(&self.core);
        loop {
            self.send();
            if self.open.is_empty() {
                match self.line.rest(self.session) {
                    None => return,
                    Some(session) => self.session = session,
                }
                continue;
            }
            let has_room = self.open.len() < OVERLAP;
            tokio::select! {
                answer = self.on_the_way.next() => match answer {
                    Some(answer) => self.answered(answer).await,
                    None => self.recover().await,
                },
                () = self.line.arrived.notified(), if has_room => {}
                () = core.stopped() => {
                    // Everything left was given up already.
                    self.line.end();
                    return;
                }
            }
        }
    }

    /// Sends batches as long as there is room on the way.
    fn send(&mut self) {
        // Nothing may overtake what has to be sent again.
        while self.on_the_way.len() == self.open.len() && self.open.len() < OVERLAP {
            let Some(mut batch) = self.line.take() else {
                return;
            };
            self.number(&mut batch);
            let sent = self.dispatch(&batch);
            if planted::is("receipt-before-answer") {
                let (durability, _) = self.core.durability();
                self.core.settle(batch.promised(durability));
                tokio::spawn(sent);
                continue;
            }
            self.on_the_way.push_back(sent);
            self.open.push_back(batch);
        }
    }

    fn number(&mut self, batch: &mut Batch) {
        batch.number = self.session.next;
        self.session.next += 1;
    }

    fn dispatch(&self, batch: &Batch) -> Sent {
        if !self.core.link.is_up() {
            // What is not sent can be rejected later.
            return Box::pin(std::future::ready(Err(down())));
        }
        batch.sent();
        let mut args = batch.args(&self.line.facts, &self.session, self.core.window_ms);
        let command = match self.by_text {
            false => "EVALSHA",
            true => {
                args[0] = Value::from_static_str(PUBLISH.text());
                "EVAL"
            }
        };
        let (core, deadline) = (Arc::clone(&self.core), batch.deadline);
        Box::pin(async move {
            let call = core.link.call("publish", command, args);
            let late = |_| Err(timed_out(None).ambiguous());
            timeout_at(deadline, call).await.unwrap_or_else(late)
        })
    }

    /// Deals with the answer to the first open batch.
    async fn answered(&mut self, answer: Result<Resp3Frame>) {
        let Some(batch) = self.open.front_mut() else {
            return;
        };
        let (durability, is_synced_later) = self.core.durability();
        match answer {
            Ok(frame) => match batch.answer(frame, durability) {
                Answer::Outcomes(outcomes) => {
                    self.by_text = false;
                    self.pause = Duration::ZERO;
                    match (self.open.pop_front(), is_synced_later) {
                        (Some(batch), true) => self.settle_when_synced(batch, outcomes),
                        _ => self.core.settle(outcomes),
                    }
                }
                Answer::Gone => self.gone().await,
                Answer::Gap => self.lost_session().await,
                Answer::Odd => {
                    batch.maybe_stored = true;
                    self.lost_session().await;
                }
            },
            Err(failed) if failed.message().starts_with("NOSCRIPT") => {
                self.by_text = true;
                self.recover().await;
            }
            Err(failed) => {
                batch.maybe_stored |= failed.is_ambiguous();
                self.pause = (2 * self.pause).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
                let is_final = !failed.is_transient();
                self.last = Some(failed);
                match is_final {
                    true => self.refused().await,
                    false => self.recover().await,
                }
            }
        }
    }

    /// Tells the outcomes of a batch once the server has it on its disk.
    fn settle_when_synced(&self, batch: Batch, outcomes: Outcomes) {
        let core = Arc::clone(&self.core);
        let session = self.session.key.clone();
        tokio::spawn(async move {
            let synced = core.syncs.wait(session, batch.number);
            let late = |_| Err(timed_out(None));
            let synced = timeout_at(batch.deadline, synced).await;
            core.settle(match synced.unwrap_or_else(late) {
                Ok(()) => outcomes,
                Err(cause) => batch.all(|| Outcome::Unknown(cause.again().ambiguous())),
            });
        });
    }

    /// Waits for what is on its way behind the first batch. What was stored of it is told again
    /// when it is sent again.
    async fn drain(&mut self) {
        let mut behind = self.open.len() - self.on_the_way.len();
        while let Some(answer) = self.on_the_way.next().await {
            let Some(batch) = self.open.get_mut(behind) else {
                return;
            };
            batch.maybe_stored |= match answer {
                Ok(frame) => !batch.is_refusal(&frame),
                Err(failed) => failed.is_ambiguous(),
            };
            behind += 1;
        }
    }

    /// Sends everything open again, in order and under its numbers, when the connection is up.
    async fn recover(&mut self) {
        self.drain().await;
        let Some(deadline) = self.open.front().map(|batch| batch.deadline) else {
            return;
        };
        let core = Arc::clone(&self.core);
        let again = Instant::now() + self.pause;
        let ready = async {
            sleep_until(again).await;
            core.link.up().await;
        };
        tokio::select! {
            ready = timeout_at(deadline, ready) => {
                if ready.is_err() || Instant::now() >= deadline {
                    return self.give_up();
                }
            }
            // The loop notices, too.
            () = core.stopped() => return,
        }
        let sent: Vec<Sent> = self.open.iter().map(|batch| self.dispatch(batch)).collect();
        self.on_the_way.extend(sent);
    }

    /// The first batch has run out of time. Whether it is stored is not known, so the batches
    /// behind it need a session that does not depend on it.
    fn give_up(&mut self) {
        let last = self.last.take();
        let now = Instant::now();
        self.renew(|batch| match batch.maybe_stored {
            true => Some(Outcome::Unknown(timed_out(last.as_ref()).ambiguous())),
            false if batch.deadline <= now => Some(Outcome::Rejected(timed_out(last.as_ref()))),
            false => None,
        });
    }

    /// The server refuses the first batch for good.
    async fn refused(&mut self) {
        self.drain().await;
        let cause = self.last.take().unwrap_or_else(down);
        let mut first = true;
        self.renew(|batch| match batch.maybe_stored {
            true => Some(Outcome::Unknown(cause.again().ambiguous())),
            false => std::mem::take(&mut first).then(|| Outcome::Rejected(cause.again())),
        });
    }

    /// The server does not know the session as far as this side does: it has expired, or its end
    /// was lost. Who was sent once and got this very answer is not stored.
    async fn lost_session(&mut self) {
        self.drain().await;
        self.renew(|batch| {
            let lost = || {
                error(
                    interline_core::ErrorKind::Protocol,
                    "publish",
                    "the server has forgotten the batches before this one",
                    "check whether it lost data; publish again with the same id",
                )
            };
            batch
                .maybe_stored
                .then(|| Outcome::Unknown(lost().ambiguous()))
        });
    }

    /// Settles open batches for which there is an outcome, and goes on with the others in a new
    /// session: they are certainly not stored, and sent by the next recovery.
    fn renew(&mut self, mut outcome: impl FnMut(&Batch) -> Option<Outcome>) {
        self.session = self.core.new_session(&self.line.facts.topic);
        for mut batch in std::mem::take(&mut self.open) {
            match outcome(&batch) {
                Some(Outcome::Unknown(cause)) => {
                    let all = batch.all(|| Outcome::Unknown(cause.again()));
                    self.core.settle(all);
                }
                Some(Outcome::Rejected(cause)) => {
                    let all = batch.all(|| Outcome::Rejected(cause.again()));
                    self.core.settle(all);
                }
                _ => {
                    self.number(&mut batch);
                    self.open.push_back(batch);
                }
            }
        }
    }

    /// The topic was deleted, or all data of the server with it.
    async fn gone(&mut self) {
        self.drain().await;
        let topic = &self.line.facts.topic;
        self.core.forget(topic);
        let cause = || {
            Outcome::Rejected(error(
                interline_core::ErrorKind::NotFound,
                "publish",
                format!("topic `{topic}` was deleted"),
                "publish again, to the topic that is there now",
            ))
        };
        for batch in self.open.drain(..) {
            self.core.settle(batch.all(cause));
        }
        let mut runs = self.line.end();
        while let Some(batch) = Batch::take(&mut runs) {
            self.core.settle(batch.all(cause));
        }
    }
}

const DOWN: &str = "the server cannot be reached";

fn down() -> Error {
    error(
        interline_core::ErrorKind::Unavailable,
        "publish",
        DOWN,
        "check that the server is up",
    )
}

/// A session that the server has not heard of.
pub(super) fn fresh_session(keys: &crate::keys::Keys, topic: &interline_core::Topic) -> Session {
    let id = Uuid::new_v4().simple().to_string();
    Session {
        key: keys.session(topic, &id),
        seen: keys.seen(topic),
        life_ms: u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX),
        next: 1,
    }
}
