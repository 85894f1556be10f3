//! A member of a group as a process.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::signal;

type Lines = Arc<Mutex<Vec<String>>>;

/// A running `interline consume --group`, with what it has written. It ends with its test.
pub(crate) struct Member {
    pub(crate) child: Child,
    ids: Lines,
    errors: Lines,
    readers: Vec<JoinHandle<()>>,
    /// Dropped, the reading goes on.
    gate: Option<Sender<()>>,
}

impl Member {
    /// Starts it and reads its first event, and no more until [`read_on`](Self::read_on).
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (ids, errors) = (Lines::default(), Lines::default());
        let (gate, closed) = channel();
        let readers = vec![
            follow(child.stdout.take().unwrap(), &ids, Some(closed), id),
            follow(child.stderr.take().unwrap(), &errors, None, str::to_owned),
        ];
        Self {
            child,
            ids,
            errors,
            readers,
            gate: Some(gate),
        }
    }

    /// Reads all that it writes.
    pub(crate) fn read_on(&mut self) {
        self.gate = None;
    }

    /// The ids of the events that it has written.
    pub(crate) fn ids(&self) -> MutexGuard<'_, Vec<String>> {
        self.ids.lock().unwrap()
    }

    /// Whether a line on stderr holds this text.
    pub(crate) fn said(&self, text: &str) -> bool {
        let errors = self.errors.lock().unwrap();
        errors.iter().any(|line| line.contains(text))
    }

    /// The most memory that it has had so far, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kilobytes.parse::<u64>().unwrap() * 1_024
    }

    /// Has it drain; the ids of all events that it has written.
    pub(crate) fn interrupt(mut self) -> Vec<String> {
        signal(&self.child, "-INT");
        let code = self.child.wait().unwrap().code();
        self.readers.drain(..).for_each(|one| one.join().unwrap());
        assert_eq!(code, Some(130), "{:?}", self.errors.lock().unwrap());
        std::mem::take(&mut *self.ids())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // Of one that has ended there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes lines as they come, the second and later ones once the gate is gone.
fn follow(
    stream: impl Read + Send + 'static,
    lines: &Lines,
    mut gate: Option<Receiver<()>>,
    take: fn(&str) -> String,
) -> JoinHandle<()> {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let line = take(&line.unwrap());
            lines.lock().unwrap().push(line);
            if let Some(gate) = gate.take() {
                // Nothing is ever sent: it ends when the sender is dropped.
                let _ = gate.recv();
            }
        }
    })
}

/// The id in a line; a parser would cost more than what is tested.
pub(crate) fn id(line: &str) -> String {
    let (_, rest) = line.split_once(r#""id":""#).unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}
