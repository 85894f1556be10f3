//! `interline dead-letters`.

use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{Args, Subcommand};
use interline::json::cloudevents;
use interline::reliability::{Filter, RedriveReport};
use interline::{DeadLetter, Group, Key, Pattern, Redrive, Timestamp, Topic};
use serde_json::{Value, json};

use crate::args::Connection;
use crate::interrupt::Interrupt;
use crate::redact::one_line;
use crate::stop::{Exit, Stop};
use crate::table::Table;
use crate::{output, progress};

/// List, show, redrive and discard dead letters
#[derive(Args, Debug)]
pub(crate) struct DeadLetters {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the open dead letters
    List {
        #[command(flatten)]
        place: Letters,
        #[command(flatten)]
        filter: Which,
    },
    /// Show a dead letter with its event
    Show {
        #[command(flatten)]
        place: Letters,
        /// Its id
        id: String,
    },
    /// Send dead letters back to the group that they died in
    Redrive {
        #[command(flatten)]
        place: Letters,
        #[command(flatten)]
        filter: Which,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// At most so many per second
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
        /// Only count
        #[arg(long)]
        dry_run: bool,
    },
    /// Settle dead letters without sending them anywhere
    Discard {
        #[command(flatten)]
        place: Letters,
        #[command(flatten)]
        filter: Which,
        /// Only count
        #[arg(long)]
        dry_run: bool,
        /// Discard without a question
        #[arg(long)]
        yes: bool,
    },
}

/// Where the letters are.
#[derive(Args, Debug)]
struct Letters {
    #[command(flatten)]
    connection: Connection,
    /// The dead-letter topic, such as orders.billing.dlq
    #[arg(value_parser = |name: &str| Topic::system(name))]
    topic: Topic,
}

/// Which letters are meant: all of them without any of these.
#[derive(Args, Debug)]
struct Which {
    /// Only these ids
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
    /// Only letters of this group
    #[arg(long)]
    group: Option<Group>,
    /// Only events whose type fits
    #[arg(long = "type", value_name = "PATTERN")]
    ty: Option<Pattern>,
    /// Only causes of this kind, such as permanent, transient, panic, timeout, undecodable
    #[arg(long)]
    kind: Option<String>,
    /// Only causes that hold this text
    #[arg(long, value_name = "TEXT")]
    cause: Option<String>,
    /// Only causes with this fingerprint
    #[arg(long)]
    fingerprint: Option<String>,
    /// Only events of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Only events with this key
    #[arg(long)]
    key: Option<String>,
    /// Only letters that died at this time or later
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only letters that died before this time
    #[arg(long, value_name = "TIME")]
    before: Option<Timestamp>,
}

impl Which {
    fn into_filter(self) -> Filter {
        let mut filter = Filter::default();
        filter.ids = self.ids;
        filter.group = self.group;
        filter.ty = self.ty;
        filter.kind = self.kind;
        filter.cause = self.cause;
        filter.fingerprint = self.fingerprint;
        filter.tenant = self.tenant;
        filter.key = self.key.map(Key::from);
        filter.since = self.since;
        filter.before = self.before;
        filter
    }
}

impl Letters {
    async fn open(&self) -> Result<interline::DeadLetters, Stop> {
        let bus = self.connection.open().await?;
        let letters = interline::DeadLetters::open(bus.transport().clone(), &self.topic).await?;
        Ok(letters)
    }
}

pub(crate) async fn run(
    args: DeadLetters,
    json: bool,
    interrupt: &Interrupt,
) -> Result<Exit, Stop> {
    match args.action {
        Action::List { place, filter } => {
            let letters = place.open().await?.list(&filter.into_filter()).await?;
            list(&letters, json)
        }
        Action::Show { place, id } => show(&place.open().await?.get(&id).await?, json),
        Action::Redrive {
            place,
            filter,
            limit,
            rate,
            dry_run,
        } => {
            let mut redrive = Redrive::default()
                .filter(filter.into_filter())
                .dry_run(dry_run);
            redrive.limit = limit;
            redrive.rate = rate;
            redrive_all(&place.open().await?, redrive, json, interrupt).await
        }
        Action::Discard {
            place,
            filter,
            dry_run,
            yes,
        } => {
            let (letters, filter) = (place.open().await?, filter.into_filter());
            if !dry_run && !yes {
                let found = letters.discard(&filter, true).await?.matched;
                let line = format!("{found} dead letters would be discarded; add --yes to do it");
                return Err(Stop::new(Exit::Usage, line));
            }
            told(
                &letters.discard(&filter, dry_run).await?,
                "discarded",
                dry_run,
                json,
            )
        }
    }
}

async fn redrive_all(
    letters: &interline::DeadLetters,
    redrive: Redrive,
    json: bool,
    interrupt: &Interrupt,
) -> Result<Exit, Stop> {
    let dry_run = redrive.dry_run;
    let bar = progress::bar("redriven", None);
    let settled = AtomicUsize::new(0);
    let count = |_: &DeadLetter| {
        settled.fetch_add(1, Ordering::Relaxed);
        bar.inc(1);
    };
    let report = tokio::select! {
        report = letters.redrive_with(redrive, count) => Some(report?),
        () = interrupt.requested() => None,
    };
    bar.finish_and_clear();
    match report {
        Some(report) => told(&report, "redriven", dry_run, json),
        None => {
            let settled = settled.load(Ordering::Relaxed);
            crate::stop::complain(&format!("interrupted; {settled} dead letters redriven"));
            Ok(Exit::Interrupted)
        }
    }
}

fn told(report: &RedriveReport, done: &str, dry_run: bool, json: bool) -> Result<Exit, Stop> {
    let RedriveReport { matched, settled } = *report;
    match json {
        true => {
            output::print_json(&json!({ "matched": matched, done: settled, "dry_run": dry_run }))?
        }
        false if dry_run => {
            output::print(&format!("{matched} dead letters would be {done}\n"))?;
        }
        false => output::print(&format!("{settled} of {matched} dead letters {done}\n"))?,
    }
    Ok(Exit::Done)
}

fn list(letters: &[DeadLetter], json: bool) -> Result<Exit, Stop> {
    if json {
        let letters: Vec<Value> = letters.iter().map(as_json).collect();
        output::print_json(&letters)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["id", "type", "kind", "attempts", "last failure", "cause"]);
    for letter in letters {
        let cause = &letter.cause;
        table.row(&[
            letter.id(),
            letter.envelope.ty().to_owned(),
            cause.kind.clone(),
            cause.attempts.to_string(),
            cause.last_failure.to_string(),
            cause.text.chars().take(80).collect(),
        ]);
    }
    output::print(&table.to_string())?;
    Ok(Exit::Done)
}

fn show(letter: &DeadLetter, json: bool) -> Result<Exit, Stop> {
    if json {
        let mut shown = as_json(letter);
        shown["event"] = event_json(letter)?;
        output::print_json(&shown)?;
        return Ok(Exit::Done);
    }
    let (origin, cause) = (&letter.origin, &letter.cause);
    let mut text = String::new();
    for (name, value) in [
        ("id", letter.id()),
        ("group", origin.group.to_string()),
        ("partition", origin.partition.to_string()),
        ("position", origin.position.to_string()),
        ("handler", cause.handler.clone()),
        ("kind", cause.kind.clone()),
        ("cause", cause.text.clone()),
        ("class", cause.class.clone()),
        ("fingerprint", cause.fingerprint()),
        ("attempts", cause.attempts.to_string()),
        ("first failure", cause.first_failure.to_string()),
        ("last failure", cause.last_failure.to_string()),
        ("redriven", letter.redriven.to_string()),
        ("event", event_json(letter)?.to_string()),
    ] {
        text += &format!("{name:<14}{}\n", one_line(&value));
    }
    output::print(&text)?;
    Ok(Exit::Done)
}

/// The event as a line of `interline consume` has it.
fn event_json(letter: &DeadLetter) -> Result<Value, Stop> {
    let line = cloudevents::to_line(&letter.envelope)?;
    serde_json::from_slice(&line).map_err(|error| Stop::failed(error.to_string()))
}

fn as_json(letter: &DeadLetter) -> Value {
    let (origin, cause) = (&letter.origin, &letter.cause);
    json!({
        "id": letter.id(),
        "event_id": letter.envelope.id().to_string(),
        "type": letter.envelope.ty(),
        "group": origin.group.as_str(),
        "topic": origin.partition.topic.as_str(),
        "partition": origin.partition.index,
        "position": origin.position.to_string(),
        "kind": cause.kind,
        "cause": cause.text,
        "class": cause.class,
        "handler": cause.handler,
        "fingerprint": cause.fingerprint(),
        "attempts": cause.attempts,
        "first_failure": cause.first_failure.to_string(),
        "last_failure": cause.last_failure.to_string(),
        "redriven": letter.redriven,
    })
}
