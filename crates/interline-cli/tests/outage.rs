//! The demo while its server is killed and started again, by the commands that the environment
//! names. A target of its own: beside it no other test can use the server.

#![allow(clippy::unwrap_used, reason = "a test that cannot run fails")]

mod common;

use std::process::Command;

use common::intake::Intake;
use common::{ended, server};

fn sh(word: &str) {
    let command = server(word).expect("INTERLINE_NAME_KILL and _START say how to break the server");
    let done = Command::new("sh").args(["-c", &command]).output().unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{word}: {errors}");
}

#[test]
fn a_killed_server_loses_nothing() {
    let intake = Intake::new();
    let consumer = intake.start_to_a_quarter(&["--no-faults"]);
    sh("KILL");
    assert!(
        intake.handled() < intake.published,
        "it was killed in the middle"
    );
    sh("START");
    // It goes on by itself, and ends when everything is handled and settled.
    let ended = ended(consumer.wait_with_output().unwrap());
    assert_eq!(ended.code, 0, "{ended:?}");
    let check = intake.check(&["--no-faults"]).json();
    assert_eq!(
        (&check["handled"], &check["lost"]),
        (&intake.published.into(), &0.into())
    );
    assert_eq!(
        (&check["out_of_order"], &check["unknown"]),
        (&0.into(), &0.into())
    );
}
