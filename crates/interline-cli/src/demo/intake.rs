//! What the handlers share: faults on purpose, the account, and the file of effects.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use interline::prelude::*;
use interline::{DeadLetter, GroupBuilder};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::faults::{Fault, Faults};
use super::ledger::Ledger;
use super::{Scene, handlers, webhooks};
use crate::stop::Stop;

const BUSY: &str = "the index is busy";

/// The text of the panic on purpose, which the panic hook keeps from the terminal.
const PANIC: &str = "a handler panics on purpose";

/// The state of the handlers, a handle.
#[derive(Clone, Debug)]
pub(super) struct Intake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    faults: Faults,
    work: Duration,
    repaired: AtomicBool,
    effects: Option<File>,
    account: Mutex<Account>,
    changed: Notify,
}

#[derive(Debug)]
struct Account {
    ledger: Ledger,
    tally: Tally,
    recovered: Vec<Recovered>,
}

/// An event that was handled after attempts that failed.
#[derive(Clone, Debug)]
pub(super) struct Recovered {
    pub(super) ty: String,
    pub(super) id: String,
    pub(super) attempt: u32,
    /// What had gone wrong.
    pub(super) fault: &'static str,
}

/// What the handlers learnt from the events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) pushes: u64,
    pub(super) commits: u64,
    pub(super) pull_requests: u64,
    pub(super) merged: u64,
    pub(super) issues: u64,
    pub(super) opened: u64,
    pub(super) others: u64,
}

/// One line of the file of effects.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Effect {
    pub(super) id: String,
    pub(super) key: Option<String>,
    pub(super) sequence: usize,
}

impl Intake {
    pub(super) fn new(scene: &Scene, effects: Option<&Path>, repaired: bool) -> Result<Self, Stop> {
        hide_planned_panics();
        let open = |path: &Path| {
            let file = File::options().append(true).create(true).open(path);
            file.map_err(|error| Stop::failed(format!("{}: {error}", path.display())))
        };
        Ok(Self(Arc::new(Inner {
            faults: scene.faults.clone(),
            work: scene.work,
            repaired: AtomicBool::new(repaired),
            effects: effects.map(open).transpose()?,
            account: Mutex::new(Account {
                ledger: Ledger::new(scene.webhooks.len()),
                tally: Tally::default(),
                recovered: Vec::new(),
            }),
            changed: Notify::new(),
        })))
    }

    /// The group of the intake, ready to start.
    pub(super) fn handlers(&self, group: GroupBuilder) -> GroupBuilder {
        let intake = self.clone();
        group
            .state(self.clone())
            .on_types("github.push", handlers::push)
            .on_types("github.pull_request.*", handlers::pull_request)
            .on_types("github.issues.*", handlers::issues)
            .on_raw("*", handlers::other)
            .lanes(8)
            .retry(retry())
            .on_dead_letter(move |letter| intake.died(letter))
    }

    /// Handles an event as far as all handlers have in common. The effect is written down before
    /// the handler returns, so before the event is settled.
    pub(super) async fn take(&self, cx: &Context) -> Handled {
        let sequence = webhooks::sequence(cx.envelope())
            .ok_or_else(|| "this is no event of the demo".permanent())?;
        if !self.0.work.is_zero() {
            tokio::time::sleep(self.0.work).await;
        }
        self.fail_on_purpose(sequence, cx.attempt())?;
        let key = cx
            .envelope()
            .key()
            .and_then(|key| std::str::from_utf8(key).ok());
        self.write_effect(cx, key, sequence)?;
        self.with(|account| {
            account.ledger.effect(sequence, key);
            account.recovered.extend(self.recovered(sequence, cx));
        });
        self.0.changed.notify_waiters();
        Ok(())
    }

    fn fail_on_purpose(&self, sequence: usize, attempt: u32) -> Handled {
        let repaired = self.0.repaired.load(Ordering::Relaxed);
        match self.0.faults.of(sequence) {
            Some(Fault::Once) if attempt == 1 => Err(BUSY.transient()),
            Some(Fault::Panic) if attempt == 1 => panic!("{PANIC}"),
            Some(Fault::Always) if !repaired => Err("the rules know no such label".transient()),
            Some(Fault::Refused) if !repaired => Err("the sender is not on the list".permanent()),
            _ => Ok(()),
        }
    }

    fn recovered(&self, sequence: usize, cx: &Context) -> Option<Recovered> {
        let fault = match self.0.faults.of(sequence)? {
            Fault::Once => BUSY,
            Fault::Panic => PANIC,
            Fault::Always | Fault::Refused => return None,
        };
        Some(Recovered {
            ty: cx.envelope().ty().to_owned(),
            id: cx.event_id().to_string(),
            attempt: cx.attempt(),
            fault,
        })
    }

    /// The events that were handled after attempts that failed.
    pub(super) fn recoveries(&self) -> Vec<Recovered> {
        self.with(|account| account.recovered.clone())
    }

    fn write_effect(&self, cx: &Context, key: Option<&str>, sequence: usize) -> Handled {
        let Some(mut file) = self.0.effects.as_ref() else {
            return Ok(());
        };
        let effect = Effect {
            id: cx.event_id().to_string(),
            key: key.map(str::to_owned),
            sequence,
        };
        let mut line = serde_json::to_vec(&effect)?;
        line.push(b'\n');
        // One call appends one line, whatever other processes append.
        file.write_all(&line)?;
        Ok(())
    }

    fn died(&self, letter: &DeadLetter) {
        if let Some(sequence) = webhooks::sequence(&letter.envelope) {
            self.with(|account| account.ledger.died(sequence));
            self.0.changed.notify_waiters();
        }
    }

    /// From now on nothing fails.
    pub(super) fn repair(&self) {
        self.0.repaired.store(true, Ordering::Relaxed);
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Tally)) {
        self.with(|account| count(&mut account.tally));
    }

    pub(super) fn tally(&self) -> Tally {
        self.with(|account| account.tally)
    }

    pub(super) fn ledger<T>(&self, read: impl FnOnce(&mut Ledger) -> T) -> T {
        self.with(|account| read(&mut account.ledger))
    }

    /// Waits until `reached` says so, at most `patience` without any change.
    pub(super) async fn until(
        &self,
        patience: Duration,
        mut reached: impl FnMut(&Ledger) -> bool,
    ) -> bool {
        loop {
            // Listening starts before looking, so that no change falls between.
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.ledger(|ledger| reached(ledger)) {
                return true;
            }
            if tokio::time::timeout(patience, changed).await.is_err() {
                return false;
            }
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Account) -> T) -> T {
        let account = self.0.account.lock();
        change(&mut account.unwrap_or_else(PoisonError::into_inner))
    }
}

/// Short delays, so that the demo is.
pub(super) fn retry() -> Retry {
    Retry::exponential()
        .max(3)
        .base(Duration::from_millis(20))
        .cap(Duration::from_millis(200))
}

fn hide_planned_panics() {
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some(PANIC) {
            shown(panic);
        }
    }));
}
