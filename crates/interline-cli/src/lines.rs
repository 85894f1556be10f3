//! Reading stdin line by line.

use std::io::{self, BufRead, Read as _};

use interline::json::cloudevents::MAX_DOCUMENT;
use tokio::sync::mpsc;

use crate::stop::{Exit, Stop};

/// How many lines one batch takes at most.
const BATCH: usize = 1_000;

/// A line with its number, from 1.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) number: u64,
    pub(crate) text: Vec<u8>,
}

/// Lines of stdin, read on a thread of its own; blank ones are left out.
#[derive(Debug)]
pub(crate) struct Lines(mpsc::Receiver<Result<Line, Stop>>);

impl Lines {
    pub(crate) fn of_stdin() -> Self {
        let (sender, receiver) = mpsc::channel(BATCH);
        std::thread::spawn(move || {
            let mut input = io::stdin().lock();
            let mut number = 0;
            while let Some(line) = next(&mut input, &mut number) {
                let last = line.is_err();
                if sender.blocking_send(line).is_err() || last {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// What is there, at least one line and at most a batch; empty at the end.
    pub(crate) async fn next(&mut self) -> Vec<Result<Line, Stop>> {
        let mut lines = Vec::new();
        self.0.recv_many(&mut lines, BATCH).await;
        lines
    }
}

fn next(input: &mut impl BufRead, number: &mut u64) -> Option<Result<Line, Stop>> {
    loop {
        *number += 1;
        let mut text = Vec::new();
        let most = MAX_DOCUMENT as u64 + 2;
        match input.by_ref().take(most).read_until(b'\n', &mut text) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => {
                let stop = Stop::failed(format!("stdin cannot be read: {error}"));
                return Some(Err(stop.at(format_args!("line {number}"))));
            }
        }
        if text.last() == Some(&b'\n') {
            text.pop();
        }
        if text.len() > MAX_DOCUMENT {
            let line = format!(
                "line {number}: longer than {MAX_DOCUMENT} bytes; publish a reference to the data"
            );
            return Some(Err(Stop::new(Exit::Invalid, line)));
        }
        if !text.trim_ascii().is_empty() {
            let number = *number;
            return Some(Ok(Line { number, text }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_blank_lines_and_a_last_line_needs_no_break() {
        let mut input = io::Cursor::new(b"a\n\n  \r\nb".to_vec());
        let mut number = 0;
        let mut read = || next(&mut input, &mut number).map(|line| line.unwrap());
        let first = read().unwrap();
        assert_eq!((first.number, &*first.text), (1, &b"a"[..]));
        let second = read().unwrap();
        assert_eq!((second.number, &*second.text), (4, &b"b"[..]));
        assert!(read().is_none());
    }

    #[test]
    fn a_line_without_end_is_refused_before_it_fills_the_memory() {
        let mut input = io::BufReader::new(io::repeat(b'x'));
        let mut number = 0;
        assert!(next(&mut input, &mut number).unwrap().is_err());
    }
}
