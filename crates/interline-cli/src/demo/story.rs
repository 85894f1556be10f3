//! The whole demo in one process.

use std::time::Duration;

use indicatif::ProgressBar;
use interline::reliability::Filter;
use interline::{
    Admin as _, AnyTransport, Bus, DeadLetter, DeadLetters, Outcome, Redrive, Topic, Workers,
};

use super::intake::{Intake, Recovered, Tally};
use super::report::Report;
use super::{PATIENCE, Scene, bus, close, intake};
use crate::interrupt::Interrupt;
use crate::output;
use crate::progress;
use crate::redact::one_line;
use crate::stop::{Exit, Stop};

/// How many events one publish carries.
pub(super) const BATCH: usize = 250;

/// Runs the scene and tells it on stdout; with `json` only its report.
pub(super) async fn tell(
    scene: Scene,
    transport: AnyTransport,
    json: bool,
    interrupt: &Interrupt,
) -> Result<Exit, Stop> {
    let (topic, own_topic) = scene.topic()?;
    let play = Play {
        intake: Intake::new(&scene, None, false)?,
        bus: bus(&transport),
        teller: Teller { json },
        topic,
        scene,
    };
    let ended = tokio::select! {
        ended = play.run() => ended,
        () = interrupt.requested() => Ok(Exit::Interrupted),
    };
    if own_topic {
        play.clean_up().await;
    }
    close(&transport).await;
    ended
}

struct Play {
    scene: Scene,
    topic: Topic,
    bus: Bus,
    intake: Intake,
    teller: Teller,
}

impl Play {
    async fn run(&self) -> Result<Exit, Stop> {
        self.teller.opening(self)?;
        let group = self.bus.group(&self.scene.group).topics(&self.topic);
        let workers = self.intake.handlers(group).start().await?;
        owned(&workers).await;
        let published = self.publish().await?;
        let events = self.scene.webhooks.len();
        self.wait(events, |ledger| ledger.ended()).await;
        let letters = self.dead_letters().await?;
        self.teller.retried(&self.intake.recoveries())?;
        self.teller.dead(&letters)?;

        self.intake.repair();
        let redriven = self.redrive(&letters).await?;
        self.wait(events, |ledger| ledger.handled).await;
        self.close(workers, published, redriven).await
    }

    /// Publishes everything; says how many are stored.
    async fn publish(&self) -> Result<u64, Stop> {
        let events = self.scene.webhooks.len();
        let bar = progress::bar("publishing", Some(events as u64));
        let mut stored = 0;
        for first in (0..events).step_by(BATCH) {
            let batch = (first..events.min(first + BATCH)).map(|sequence| {
                self.intake.ledger(|ledger| ledger.published(sequence));
                Ok((self.topic.clone(), self.scene.webhooks.envelope(sequence)?))
            });
            let batch = batch.collect::<Result<Vec<_>, Stop>>()?;
            for outcome in self.bus.publish_raw(batch).await? {
                stored += u64::from(Outcome::into_result(outcome)?.is_ok());
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(stored)
    }

    /// Waits until `count` has come to `events`, or nothing moves any more.
    async fn wait(&self, events: usize, count: fn(&super::ledger::Ledger) -> usize) {
        let bar: ProgressBar = progress::bar("handling", Some(events as u64));
        let reached = self.intake.until(PATIENCE, |ledger| {
            bar.set_position(count(ledger) as u64);
            count(ledger) >= events
        });
        if !reached.await {
            let patience = PATIENCE.as_secs();
            crate::stop::complain(&format!("nothing has moved for {patience} s; giving up"));
        }
        bar.finish_and_clear();
    }

    async fn letters(&self) -> Result<DeadLetters, Stop> {
        let name = self.topic.dlq(&self.scene.group);
        Ok(DeadLetters::open(self.bus.transport().clone(), name).await?)
    }

    async fn dead_letters(&self) -> Result<Vec<DeadLetter>, Stop> {
        Ok(self.letters().await?.list(&Filter::default()).await?)
    }

    async fn redrive(&self, letters: &[DeadLetter]) -> Result<usize, Stop> {
        let report = self.letters().await?.redrive(Redrive::default()).await?;
        if report.settled != letters.len() {
            let line = format!(
                "{} of {} dead letters were redriven",
                report.settled,
                letters.len()
            );
            return Err(Stop::failed(line));
        }
        self.teller.redriven(self, report.settled)?;
        Ok(report.settled)
    }

    async fn close(&self, workers: Workers, published: u64, redriven: usize) -> Result<Exit, Stop> {
        let stats = workers.drain(PATIENCE).await?.into_result()?;
        let still_dead = self.dead_letters().await?.len();
        let mut report = self.intake.ledger(|ledger| Report::of(ledger, published));
        report.retried = stats.retried;
        report.dead_lettered = stats.dead_lettered;
        report.redriven = redriven;
        self.teller.closing(&report, &self.intake.tally())?;
        match report.holds() && still_dead == 0 {
            true => Ok(Exit::Done),
            false => Err(Stop::failed(self.complaint(&report, still_dead))),
        }
    }

    fn complaint(&self, report: &Report, still_dead: usize) -> String {
        let lost = self.intake.ledger(|ledger| ledger.lost());
        let first = lost
            .first()
            .map_or(String::new(), |sequence| format!(" (first: {sequence})"));
        format!(
            "{} events lost{first}, {} out of order, {still_dead} dead letters left",
            report.lost, report.out_of_order
        )
    }

    /// Deletes what this run alone has used. A failure to do so changes nothing about the run.
    async fn clean_up(&self) {
        let (admin, group) = (self.bus.admin(), &self.scene.group);
        for topic in [
            self.topic.retry(group),
            self.topic.dlq(group),
            self.topic.clone(),
        ] {
            if let Err(error) = admin.delete_topic(&topic).await {
                crate::stop::complain(&error.to_string());
            }
        }
    }
}

/// Waits until the group owns partitions, so that latency does not count its joining. If it takes
/// too long, the waiting for events says so.
async fn owned(workers: &Workers) {
    let mut look = tokio::time::interval(Duration::from_millis(10));
    let owns = async {
        while workers.stats().partitions == 0 && workers.is_healthy() {
            look.tick().await;
        }
    };
    drop(tokio::time::timeout(PATIENCE, owns).await);
}

/// Tells the story to people; machines get the report alone.
struct Teller {
    json: bool,
}

impl Teller {
    fn say(&self, lines: &str) -> Result<(), Stop> {
        match self.json {
            true => Ok(()),
            false => output::print(lines),
        }
    }

    fn opening(&self, play: &Play) -> Result<(), Stop> {
        let (types, keys) = play.scene.webhooks.variety();
        self.say(&format!(
            "A webhook intake on {}: {} events of {types} types, ordered by {keys} repositories.\n\
             topic {}, group {}, 8 lanes; {}.\n\n",
            play.bus.capabilities().transport,
            play.scene.webhooks.len(),
            play.topic,
            play.scene.group,
            intake::retry()
        ))
    }

    fn retried(&self, recovered: &[Recovered]) -> Result<(), Stop> {
        recovered.iter().try_for_each(|event| {
            let Recovered {
                ty,
                id,
                attempt,
                fault,
            } = event;
            let line = format!("{ty} {id}: {fault}; handled at attempt {attempt}");
            self.say(&format!("retry        {}\n", one_line(&line)))
        })
    }

    fn dead(&self, letters: &[DeadLetter]) -> Result<(), Stop> {
        letters.iter().try_for_each(|letter| {
            let (event, cause) = (&letter.envelope, &letter.cause);
            let (ty, id, attempts) = (event.ty(), event.id(), cause.attempts);
            let line = format!(
                "{ty} {id}: {}: {}; attempts: {attempts}",
                cause.kind, cause.text
            );
            self.say(&format!("dead letter  {}\n", one_line(&line)))
        })
    }

    fn redriven(&self, play: &Play, letters: usize) -> Result<(), Stop> {
        let back = play.topic.retry(&play.scene.group);
        self.say(&format!(
            "redrive      the handler is repaired; {letters} dead letters go back through {back}\n\n"
        ))
    }

    fn closing(&self, report: &Report, tally: &Tally) -> Result<(), Stop> {
        match self.json {
            true => output::print_json(report),
            false => output::print(&format!("{report}\n{tally}\n")),
        }
    }
}
