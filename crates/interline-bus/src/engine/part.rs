//! One owned partition.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;
use interline_core::{
    AnyControl, Checkpoint, Control, Fence, Flow, Partition, Position, Progress, Range, Recorded,
    Suspect, Topic,
};
use tokio::time::Instant;

use super::window::Window;
use super::{Config, EntryId};

/// How many unclean starts at one frontier make the engine cautious, and how many deaths as a
/// suspect bury an event unrun.
const UNCLEAN_LIMIT: u8 = 3;

/// A partition that this member owns.
pub(super) struct Part {
    pub(super) partition: Arc<Partition>,
    /// The topic that its events were published to: its own, or the one it is the return topic of.
    pub(super) topic: Topic,
    /// Whether this is the return topic of that one, so that marks in headers are believed.
    pub(super) returns: bool,
    pub(super) fence: Fence,
    pub(super) window: Window,
    pub(super) mode: Mode,
    /// The last delivery of each lane that is occupied.
    pub(super) lanes: HashMap<u64, EntryId, FixedState>,
    /// Records that were read and not admitted yet.
    pub(super) backlog: VecDeque<Recorded>,
    /// Heads of lanes that wait until fewer ranges lie beyond the frontier.
    pub(super) parked: Vec<EntryId>,
    /// Attempts of events beyond the frontier that failed and are not settled.
    pub(super) tried: BTreeMap<Position, u32>,
    /// Handlers running.
    pub(super) running: usize,
    /// Stores under way.
    pub(super) storing: usize,
    /// Whether the backlog is to be looked at in this turn.
    pub(super) refill: bool,
    pub(super) version: Version,
    pub(super) caution: Option<Caution>,
    /// Settled ranges of the checkpoint that have not been read again yet.
    restored: Vec<Range>,
    assigned: Assigned,
    stopped: bool,
    max_attempts: usize,
}

/// What a partition is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// The mark of this start is not stored yet: nothing runs before it is.
    Starting,
    /// Events run.
    Live,
    /// An event became a dead letter and the policy stops the partition after that.
    Halted,
    /// Given up: nothing new runs, and it is released once nothing runs or at the deadline.
    Leaving(Instant),
}

/// Which state of the progress is stored.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Version {
    /// The present state.
    pub(super) now: u64,
    /// The stored state.
    pub(super) stored: u64,
    /// When the first change after the stored state happened.
    pub(super) since: Option<Instant>,
    /// How many deliveries were settled since.
    pub(super) settled: u32,
}

/// What the checkpoint said about earlier starts.
#[derive(Clone, Copy, Debug)]
struct Assigned {
    frontier: Option<Position>,
    unclean: u8,
}

/// Running one event at a time after repeated deaths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caution {
    /// How many events are still run alone.
    left: usize,
    /// The suspect of the checkpoint.
    known: Option<Suspect>,
    /// The event that may run next, and the version of the progress that names it.
    armed: Option<(Suspect, u64)>,
}

/// Whether the head of the backlog may be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Open,
    /// The event killed its process too often: it is buried unrun.
    Bury,
    Wait,
}

impl Part {
    pub(super) fn new(checkpoint: Checkpoint, topic: Topic, config: &Config) -> Self {
        let Progress {
            frontier,
            done,
            attempts,
            unclean,
            suspect,
        } = checkpoint.progress;
        let cautious = unclean >= UNCLEAN_LIMIT || suspect.is_some();
        Self {
            returns: checkpoint.partition.topic.is_retry(),
            partition: Arc::new(checkpoint.partition),
            topic,
            fence: checkpoint.fence,
            window: Window::new(frontier),
            mode: Mode::Starting,
            lanes: HashMap::default(),
            backlog: VecDeque::new(),
            parked: Vec::new(),
            tried: attempts.into_iter().collect(),
            running: 0,
            storing: 0,
            refill: false,
            version: Version::default(),
            caution: cautious.then_some(Caution {
                left: config.window_events,
                known: suspect,
                armed: None,
            }),
            restored: done,
            assigned: Assigned {
                frontier,
                unclean: unclean.saturating_add(1),
            },
            stopped: false,
            max_attempts: config.capabilities.max_attempts,
        }
    }

    /// Takes records that have to wait. The first ones ask for the mark of this start, so that a
    /// partition without events has none to be blamed for.
    pub(super) fn wait(&mut self, records: impl Iterator<Item = Recorded>) {
        self.backlog.extend(records);
        if self.mode == Mode::Starting && !self.backlog.is_empty() && !self.is_dirty() {
            self.changed();
        }
    }

    /// Whether records wait here or are kept from coming.
    pub(super) fn is_backed_up(&self) -> bool {
        self.stopped || !self.backlog.is_empty()
    }

    /// Notes that the progress is no longer what is stored.
    pub(super) fn changed(&mut self) {
        self.version.now += 1;
        self.version.since.get_or_insert_with(Instant::now);
    }

    /// Notes that the state `version` is stored.
    pub(super) fn stored(&mut self, version: u64) {
        self.version.stored = version;
        self.version.settled = 0;
        self.version.since = (self.version.now > version).then(Instant::now);
        if self.mode == Mode::Starting {
            self.mode = Mode::Live;
        }
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.version.now > self.version.stored
    }

    /// Whether the checkpoint cannot wait for its turn: the first event waits for the mark of this
    /// start, or events run alone, and one that is done must not be blamed for a later death.
    pub(super) fn is_urgent(&self) -> bool {
        self.is_dirty() && (self.mode == Mode::Starting || self.caution.is_some())
    }

    /// The progress as it is now; a clean one forgets the marks of starts and suspects.
    pub(super) fn progress(&self, clean: bool) -> Progress {
        let frontier = self.window.frontier();
        let moved = frontier != self.assigned.frontier;
        let unclean = if moved { 1 } else { self.assigned.unclean };
        let attempts = self.tried.iter().map(|(at, made)| (*at, *made));
        let caution = self.caution.filter(|_| !clean);
        Progress {
            frontier,
            done: self.done(),
            attempts: attempts.take(self.max_attempts).collect(),
            unclean: if clean { 0 } else { unclean },
            suspect: caution.and_then(|c| c.armed.map(|(suspect, _)| suspect).or(c.known)),
        }
    }

    /// What is settled beyond the frontier, read again or not.
    fn done(&self) -> Vec<Range> {
        let mut done = self.window.done();
        if self.restored.is_empty() {
            return done;
        }
        done.extend_from_slice(&self.restored);
        done.sort_unstable();
        done.dedup_by(|later, kept| {
            let overlaps = later.first <= kept.last;
            if overlaps {
                kept.last = kept.last.max(later.last);
            }
            overlaps
        });
        done
    }

    pub(super) fn checkpoint(&self, clean: bool) -> Checkpoint {
        Checkpoint {
            partition: (*self.partition).clone(),
            fence: self.fence,
            progress: self.progress(clean),
        }
    }

    /// Whether the checkpoint says that `position` is settled; forgets ranges that are behind.
    pub(super) fn was_done(&mut self, position: Position) -> bool {
        if self.restored.is_empty() {
            return false;
        }
        self.restored.retain(|range| range.last >= position);
        self.restored
            .first()
            .is_some_and(|range| range.first <= position)
    }

    /// Whether the next record may be admitted.
    pub(super) fn admission(&mut self, next: Position, config: &Config) -> Admission {
        let room = self.window.len() < config.window_events
            && (self.window.len() == 0 || self.window.bytes() < config.window_bytes);
        if self.mode != Mode::Live || !room {
            return Admission::Wait;
        }
        let Some(caution) = &mut self.caution else {
            return Admission::Open;
        };
        if self.window.len() > 0 {
            return Admission::Wait;
        }
        if caution.left == 0 {
            self.caution = None;
            self.changed();
            return Admission::Open;
        }
        let known = caution.known.filter(|suspect| suspect.position == next);
        let deaths = known.map_or(0, |suspect| suspect.deaths);
        if deaths >= UNCLEAN_LIMIT {
            return Admission::Bury;
        }
        match caution.armed {
            Some((suspect, version)) if suspect.position == next => {
                if version <= self.version.stored {
                    Admission::Open
                } else {
                    Admission::Wait
                }
            }
            _ => {
                self.arm(next, deaths + 1);
                Admission::Wait
            }
        }
    }

    /// Writes down which event runs next, before it runs.
    fn arm(&mut self, position: Position, deaths: u8) {
        self.changed();
        let version = self.version.now;
        if let Some(caution) = &mut self.caution {
            caution.armed = Some((Suspect { position, deaths }, version));
        }
    }

    /// Notes that the event that ran alone is settled.
    pub(super) fn cleared(&mut self) {
        let frontier = self.window.frontier();
        if let Some(caution) = &mut self.caution {
            caution.left = caution.left.saturating_sub(1);
            caution.armed = None;
            caution.known = caution
                .known
                .filter(|known| Some(known.position) > frontier);
        }
    }

    /// Whether one more handler may start: each may add a range to the checkpoint when it is
    /// done. The delivery that the frontier waits for takes one away, so it may always start.
    pub(super) fn has_room_for_range(&self, seq: u64, config: &Config) -> bool {
        let most = config.capabilities.max_ranges;
        self.window.is_front(seq)
            || self.window.ranges() + self.restored.len() + self.running < most
    }

    /// Stops the flow when records pile up, and opens it again when they are gone.
    pub(super) fn regulate(&mut self, config: &Config, control: &AnyControl, paused: bool) {
        let stop = if self.stopped {
            paused || !self.backlog.is_empty() || self.window.len() > config.window_events / 2
        } else {
            paused || !self.backlog.is_empty()
        };
        if stop != self.stopped {
            self.stopped = stop;
            let flow = if stop { Flow::Stopped } else { Flow::Open };
            control.flow(&self.partition, self.fence, flow);
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        matches!(self.mode, Mode::Leaving(_))
    }
}
