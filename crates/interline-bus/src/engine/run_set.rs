//! Slots of running handlers, each with a waker of its own that is made once.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use slab::Slab;
use tokio::time::Instant;

use super::EntryId;
use crate::handler::{Finished, Slot};

/// The running handlers.
///
/// A cell is a slot of one route with its permanent waker. Cells are never given back: a free one
/// waits in `idle` for the next call of its route.
pub(super) struct RunSet {
    cells: Slab<Cell>,
    idle: Vec<Vec<usize>>,
    woken: Arc<Woken>,
    /// Cells taken out of `woken` for this turn.
    turn: Vec<usize>,
    running: usize,
    per_route: Vec<usize>,
    /// No cell is due before this.
    timeout: Option<Instant>,
}

struct Cell {
    slot: Box<dyn Slot>,
    route: usize,
    /// The deliveries of the call; empty for one that has not left the fast path.
    entries: Vec<EntryId>,
    deadline: Option<Instant>,
    signal: Arc<Signal>,
    waker: Waker,
}

/// Which cells have been woken, and the task to tell.
#[derive(Default)]
struct Woken {
    cells: Mutex<Vec<usize>>,
    task: AtomicWaker,
}

struct Signal {
    cell: usize,
    queued: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let cells = self.woken.cells.lock();
            cells
                .unwrap_or_else(PoisonError::into_inner)
                .push(self.cell);
            self.woken.task.wake();
        }
    }
}

impl RunSet {
    pub(super) fn new(routes: usize) -> Self {
        Self {
            cells: Slab::new(),
            idle: vec![Vec::new(); routes],
            woken: Arc::default(),
            turn: Vec::new(),
            running: 0,
            per_route: vec![0; routes],
            timeout: None,
        }
    }

    /// Names the task to wake.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.woken.task.register(cx.waker());
    }

    /// How many calls run.
    pub(super) fn len(&self) -> usize {
        self.running
    }

    /// How many calls of a route run.
    pub(super) fn of_route(&self, route: usize) -> usize {
        self.per_route[route]
    }

    /// A free cell of `route`, which now counts as running.
    pub(super) fn take(&mut self, route: usize, make: impl FnOnce() -> Box<dyn Slot>) -> usize {
        self.running += 1;
        self.per_route[route] += 1;
        if let Some(cell) = self.idle[route].pop() {
            return cell;
        }
        let vacant = self.cells.vacant_entry();
        let cell = vacant.key();
        let signal = Arc::new(Signal {
            cell,
            queued: AtomicBool::new(false),
            woken: Arc::clone(&self.woken),
        });
        vacant.insert(Cell {
            slot: make(),
            route,
            entries: Vec::new(),
            deadline: None,
            waker: Waker::from(Arc::clone(&signal)),
            signal,
        });
        cell
    }

    pub(super) fn slot(&mut self, cell: usize) -> &mut dyn Slot {
        &mut *self.cells[cell].slot
    }

    /// Runs a call as far as it goes, with the cell's own waker.
    pub(super) fn poll(&mut self, cell: usize) -> Poll<Finished> {
        let Cell {
            slot,
            signal,
            waker,
            ..
        } = &mut self.cells[cell];
        // Cleared before polling: a wake during the poll has to be seen.
        signal.queued.store(false, Ordering::Release);
        slot.poll(&mut Context::from_waker(waker))
    }

    /// Says which deliveries the call of `cell` is about, and until when it may run.
    pub(super) fn occupy(&mut self, cell: usize, entries: &[EntryId], deadline: Instant) {
        let occupied = &mut self.cells[cell];
        occupied.entries.extend_from_slice(entries);
        occupied.deadline = Some(deadline);
        self.timeout = Some(self.timeout.map_or(deadline, |at| at.min(deadline)));
    }

    /// Frees a cell and appends its deliveries to `entries`.
    pub(super) fn free(&mut self, cell: usize, entries: &mut Vec<EntryId>) {
        let freed = &mut self.cells[cell];
        entries.append(&mut freed.entries);
        freed.deadline = None;
        self.idle[freed.route].push(cell);
        self.running -= 1;
        self.per_route[freed.route] -= 1;
    }

    /// Drops the call of a cell where it stands.
    pub(super) fn clear(&mut self, cell: usize) {
        self.cells[cell].slot.clear();
    }

    /// The next cell that was woken and is running.
    pub(super) fn next_woken(&mut self) -> Option<usize> {
        loop {
            if self.turn.is_empty() {
                let woken = self.woken.cells.lock();
                let mut woken = woken.unwrap_or_else(PoisonError::into_inner);
                if woken.is_empty() {
                    return None;
                }
                std::mem::swap(&mut *woken, &mut self.turn);
            }
            let cell = self.turn.pop()?;
            if self.cells[cell].deadline.is_some() {
                return Some(cell);
            }
            // A late wake of a call that is over.
            self.cells[cell]
                .signal
                .queued
                .store(false, Ordering::Release);
        }
    }

    /// No call is due before this.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    /// The cells whose deadline has passed.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<usize> {
        if self.timeout.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let running = |cell: &Cell| cell.deadline;
        let all = self.cells.iter();
        let expired = all
            .clone()
            .filter(|(_, cell)| running(cell).is_some_and(|at| at <= now));
        let expired: Vec<usize> = expired.map(|(at, _)| at).collect();
        self.timeout = all
            .filter_map(|(_, cell)| running(cell))
            .filter(|at| *at > now)
            .min();
        expired
    }

    /// The cells whose call is about a delivery for which `test` says yes.
    pub(super) fn about(&self, test: impl Fn(EntryId) -> bool) -> Vec<usize> {
        let cells = self.cells.iter();
        cells
            .filter(|(_, cell)| cell.entries.iter().any(|entry| test(*entry)))
            .map(|(at, _)| at)
            .collect()
    }
}

impl fmt::Debug for RunSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunSet({} running)", self.running)
    }
}
