//! Parts of the demo for several processes, of which some may be killed.

use std::path::Path;
use std::time::Duration;

use interline::{Admin as _, AnyTransport, Bus, Group, Outcome, Topic, TopicSpec};

use super::check::Effects;
use super::intake::Intake;
use super::story::BATCH;
use super::{PATIENCE, Scene, bus, close};
use crate::interrupt::Interrupt;
use crate::output;
use crate::progress;
use crate::stop::{Exit, Stop};

/// How often a consumer looks whether everything is done.
const LOOK: Duration = Duration::from_millis(500);

/// Publishes every event and waits for its outcome.
pub(super) async fn publish(
    scene: &Scene,
    bus: Bus,
    json: bool,
    interrupt: &Interrupt,
) -> Result<Exit, Stop> {
    let (topic, _) = scene.topic()?;
    bus.admin()
        .ensure(vec![TopicSpec::new(topic.clone())])
        .await?;
    let events = scene.webhooks.len();
    let bar = progress::bar("publishing", Some(events as u64));
    let mut published = 0;
    for first in (0..events).step_by(BATCH) {
        let batch = (first..events.min(first + BATCH))
            .map(|sequence| Ok((topic.clone(), scene.webhooks.envelope(sequence)?)));
        let batch = batch.collect::<Result<Vec<_>, Stop>>()?;
        for outcome in bus.publish_raw(batch).await? {
            Outcome::into_result(outcome)?;
            published += 1;
            bar.inc(1);
        }
        if interrupt.is_requested() {
            break;
        }
    }
    bar.finish_and_clear();
    bus.close(PATIENCE).await?;
    match json {
        true => output::print_json(&serde_json::json!({ "published": published }))?,
        false => output::print(&format!("{published} published to {topic}\n"))?,
    }
    match published == events {
        true => Ok(Exit::Done),
        false => Ok(Exit::Interrupted),
    }
}

/// Handles events until every one has its effect in the file, whoever wrote it.
///
/// Without the repair the events that fail for good have none: then it ends when the group has
/// settled everything.
pub(super) async fn consume(
    scene: Scene,
    transport: AnyTransport,
    effects: &Path,
    repaired: bool,
    json: bool,
    interrupt: &Interrupt,
) -> Result<Exit, Stop> {
    let (topic, _) = scene.topic()?;
    let intake = Intake::new(&scene, Some(effects), repaired)?;
    let bus = bus(&transport);
    let workers = intake
        .handlers(bus.group(&scene.group).topics(&topic))
        .start()
        .await?;
    let interrupted = tokio::select! {
        done = finished(&scene, &bus, &topic, effects, repaired) => done.map(|()| false),
        () = interrupt.requested() => Ok(true),
    };
    let report = workers.drain(PATIENCE).await?;
    close(&transport).await;
    let stats = report.into_result()?;
    match json {
        true => output::print_json(&serde_json::json!({
            "handled": stats.handled,
            "retried": stats.retried,
            "dead_lettered": stats.dead_lettered,
        }))?,
        false => output::print(&format!(
            "{} handled here, {} retried, {} dead-lettered\n",
            stats.handled, stats.retried, stats.dead_lettered
        ))?,
    }
    match interrupted? {
        true => Ok(Exit::Interrupted),
        false => Ok(Exit::Done),
    }
}

async fn finished(
    scene: &Scene,
    bus: &Bus,
    topic: &Topic,
    file: &Path,
    repaired: bool,
) -> Result<(), Stop> {
    let expected = |sequence: &usize| repaired || !scene.faults.is_poison(*sequence);
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        let effects = Effects::read(file, scene.webhooks.len())?;
        if effects.lost().iter().any(expected) {
            continue;
        }
        match lag(bus, topic, &scene.group).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // The handlers wait through an outage, and so does who watches them.
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// How many events the group has not settled, on the topic and on its return topic.
async fn lag(bus: &Bus, topic: &Topic, group: &Group) -> interline::Result<u64> {
    let groups = bus.admin().groups(None).await?;
    let own = groups.iter().filter(|info| info.group == *group);
    let partitions = own.flat_map(|info| &info.partitions);
    let read = [topic.clone(), topic.retry(group)];
    Ok(partitions
        .filter(|lag| read.contains(&lag.partition.topic))
        .map(|lag| lag.lag.unwrap_or(0))
        .sum())
}
