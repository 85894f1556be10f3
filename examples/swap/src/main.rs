#![doc = include_str!("../README.md")]

use std::time::Duration;

use interline::EventId;
use interline::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

const READINGS: usize = 10;

/// What a sensor measured. Readings of one sensor stay in order.
#[derive(Clone, Serialize, Deserialize, Event)]
#[event(type = "weather.reading.taken", topic = "readings", key = sensor)]
struct ReadingTaken {
    sensor: String,
    number: usize,
}

/// Fails once for one of the readings; those behind it wait until it is retried.
async fn archive(
    reading: ReadingTaken,
    State(done): State<UnboundedSender<ReadingTaken>>,
    context: Context,
) -> Handled {
    if reading.number == READINGS / 2 && context.attempt() == 1 {
        return Err("the archive is busy".transient());
    }
    done.send(reading)?;
    Ok(())
}

#[tokio::main]
async fn main() -> interline::Result<()> {
    let url = std::env::var("INTERLINE_URL").unwrap_or_else(|_| "memory://example".to_owned());
    let bus = Bus::new(transport::connect(&*url).await?).source("/weather");
    let (done, mut archived) = unbounded_channel::<ReadingTaken>();
    let workers = bus
        .group("archive")
        .state(done)
        .on(archive)
        .retry(Retry::exponential().base(Duration::from_millis(50)))
        .start()
        .await?;

    // A sensor of this run alone: a broker may still hold readings of another one.
    let sensor = EventId::new().to_string();
    let reading = |number| ReadingTaken {
        sensor: sensor.clone(),
        number,
    };
    for outcome in bus.publish_all((0..READINGS).map(reading)).await? {
        outcome.into_result()?;
    }
    let mut numbers = Vec::new();
    while numbers.len() < READINGS {
        let reading = archived.recv().await;
        let own = reading.filter(|reading| reading.sensor == sensor);
        numbers.extend(own.map(|reading| reading.number));
    }

    let stats = workers
        .drain(Duration::from_secs(10))
        .await?
        .into_result()?;
    let transport = bus.capabilities().transport;
    bus.close(Duration::from_secs(10)).await?;
    assert!(numbers.is_sorted(), "one sensor's readings stay in order");
    println!(
        "{transport}: {} published, {} handled in order, {} retried, drained",
        READINGS, stats.handled, stats.retried
    );
    Ok(())
}
