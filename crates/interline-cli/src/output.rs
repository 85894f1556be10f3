//! Writing to stdout.

use std::io::{self, Write};

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::stop::Stop;

/// Writes text and flushes it.
pub(crate) fn print(text: &str) -> Result<(), Stop> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(Stop::from)
}

/// Writes one JSON document as one line.
pub(crate) fn print_json(value: &impl Serialize) -> Result<(), Stop> {
    let mut line = serde_json::to_string(value).map_err(|error| Stop::failed(error.to_string()))?;
    line.push('\n');
    print(&line)
}

/// Stdout on a thread of its own: a reader that does not read must not stop the runtime, nor a
/// Ctrl-C from being heard.
#[derive(Debug)]
pub(crate) struct Writer(mpsc::Sender<(Vec<u8>, oneshot::Sender<io::Result<()>>)>);

impl Writer {
    pub(crate) fn start() -> Self {
        let (sender, mut jobs) = mpsc::channel::<(Vec<u8>, oneshot::Sender<io::Result<()>>)>(1);
        std::thread::spawn(move || {
            let mut stdout = io::stdout();
            while let Some((bytes, done)) = jobs.blocking_recv() {
                let written = stdout.write_all(&bytes).and_then(|()| stdout.flush());
                // Whoever was interrupted does not wait for it.
                let _ = done.send(written);
            }
        });
        Self(sender)
    }

    /// Writes and flushes `bytes`.
    pub(crate) async fn write(&self, bytes: Vec<u8>) -> Result<(), Stop> {
        let (done, written) = oneshot::channel();
        let gone = || Stop::failed("stdout is gone");
        self.0.send((bytes, done)).await.map_err(|_| gone())?;
        written.await.map_err(|_| gone())?.map_err(Stop::from)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::failed(format!("stdout cannot be written: {error}")),
        }
    }
}
