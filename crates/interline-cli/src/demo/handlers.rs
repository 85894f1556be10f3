//! The handlers of the intake: typed for what it counts, raw for the rest.

use interline::prelude::*;
use serde::{Deserialize, Serialize};

use super::intake::Intake;

/// The types of one shape share a handler; the topic is that of the run.
#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "github.push", topic = "webhooks")]
pub(super) struct Push {
    commits: Vec<Commit>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Commit {
    message: String,
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "github.pull_request", topic = "webhooks")]
pub(super) struct PullRequest {
    action: String,
    pull_request: PullRequestState,
}

#[derive(Debug, Serialize, Deserialize)]
struct PullRequestState {
    number: u64,
    title: String,
    merged: Option<bool>,
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "github.issues", topic = "webhooks")]
pub(super) struct Issues {
    action: String,
    issue: Issue,
}

#[derive(Debug, Serialize, Deserialize)]
struct Issue {
    number: u64,
    title: String,
}

pub(super) async fn push(event: Push, State(intake): State<Intake>, cx: Context) -> Handled {
    intake.take(&cx).await?;
    intake.count(|tally| {
        tally.pushes += 1;
        tally.commits += event.commits.len() as u64;
    });
    Ok(())
}

pub(super) async fn pull_request(
    event: PullRequest,
    State(intake): State<Intake>,
    cx: Context,
) -> Handled {
    intake.take(&cx).await?;
    let merged = event.action == "closed" && event.pull_request.merged == Some(true);
    intake.count(|tally| {
        tally.pull_requests += 1;
        tally.merged += u64::from(merged);
    });
    Ok(())
}

pub(super) async fn issues(event: Issues, State(intake): State<Intake>, cx: Context) -> Handled {
    intake.take(&cx).await?;
    intake.count(|tally| {
        tally.issues += 1;
        tally.opened += u64::from(event.action == "opened");
    });
    Ok(())
}

/// Every other type, raw.
pub(super) async fn other(State(intake): State<Intake>, cx: Context) -> Handled {
    intake.take(&cx).await?;
    intake.count(|tally| tally.others += 1);
    Ok(())
}
