//! The partitions of a reading, and the statement that brings their rows.

use std::pin::Pin;

use futures_util::{FutureExt, StreamExt};
use interline_core::{BoxFuture, Fence, Partition, Position, Result};
use tokio::time::{Duration, Instant, sleep_until};
use tokio_postgres::{Row, RowStream};

use crate::error::{late, postgres};
use crate::topics::Facts;

/// After which time without an answer the connection is given up.
const SILENCE: Duration = Duration::from_secs(10);

/// A partition that is read.
#[derive(Debug)]
pub(super) struct Part {
    /// Tells it from one that was opened for the same partition earlier.
    pub(super) serial: u64,
    pub(super) partition: Partition,
    pub(super) fence: Fence,
    pub(super) after: Option<Position>,
    pub(super) place: Option<Place>,
    pub(super) is_open: bool,
    /// The id behind which the reading ends.
    pub(super) stop: Option<i64>,
}

/// Where a reading stands, once the server has been asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) facts: Facts,
    /// The id of the last event that was handed out, or after which it begins.
    pub(super) cursor: i64,
    /// When the event at the cursor was stored; nothing if none was handed out.
    pub(super) stored: Option<i64>,
    /// Up to this id nothing more is there.
    pub(super) read_to: i64,
}

impl Part {
    /// Up to which id there may be more to read.
    pub(super) fn target(&self, horizon: i64) -> i64 {
        self.stop.map_or(horizon, |stop| stop.min(horizon))
    }

    pub(super) fn wants(&self, horizon: i64) -> bool {
        let place = self.place.as_ref();
        self.is_open && place.is_some_and(|place| place.read_to < self.target(horizon))
    }

    pub(super) fn is_done(&self) -> bool {
        let read_to = self.place.map(|place| place.read_to);
        self.stop.is_some_and(|stop| read_to >= Some(stop))
    }
}

/// A statement whose rows are being taken.
pub(super) struct Reading {
    pub(super) stream: Stream,
    /// The partitions in the order of the statement.
    pub(super) asked: Vec<Asked>,
    pub(super) horizon: i64,
    pub(super) limit: usize,
    /// When the server was last heard of.
    pub(super) heard: Instant,
}

pub(super) enum Stream {
    Starting(BoxFuture<'static, Result<RowStream, tokio_postgres::Error>>),
    Rows(Pin<Box<RowStream>>),
    Failed(Option<tokio_postgres::Error>),
}

/// A partition of a statement.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) serial: u64,
    pub(super) rows: usize,
    /// Rows of it were passed over: what follows them in this statement is not wanted.
    pub(super) is_broken: bool,
}

impl Reading {
    /// The next row. Dropping the call loses none.
    pub(super) async fn next(&mut self) -> Result<Option<Row>> {
        let failed = |error| postgres("read", error);
        let silent = self.heard + SILENCE;
        let stream = &mut self.stream;
        if let Stream::Starting(starting) = stream {
            let rows = tokio::select! {
                biased;
                rows = starting => rows.map_err(failed)?,
                () = sleep_until(silent) => return Err(late("read")),
            };
            *stream = Stream::Rows(Box::pin(rows));
        }
        let rows = match stream {
            Stream::Rows(rows) => rows,
            Stream::Failed(error) => return error.take().map(failed).map_or(Ok(None), Err),
            Stream::Starting(_) => return Ok(None),
        };
        // Rows mostly are there already, and a timer for each would cost more than the row.
        let row = match rows.next().now_or_never() {
            Some(row) => row,
            None => tokio::select! {
                biased;
                row = rows.next() => row,
                () = sleep_until(silent) => return Err(late("read")),
            },
        };
        self.heard = Instant::now();
        row.transpose().map_err(failed)
    }
}
