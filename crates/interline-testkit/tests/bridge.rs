//! The bridge between two memory transports, under a paused clock.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use interline_bus::{Bus, Workers};
use interline_core::{Bytes, Envelope, Key, Kind, Pattern, Result, Topic};
use interline_reliability::{DeadLetters, Filter};
use interline_testkit::{Faulty, Refusal};
use tokio::time::timeout;

const KEYS: usize = 7;

async fn bus() -> Result<Bus> {
    Ok(Bus::new(interline_memory::connect("memory://").await?))
}

fn event(number: usize) -> Result<Envelope> {
    let kind = Kind::new("/shop", "shop.order.placed")?.content_type("text/plain");
    Envelope::builder(kind)
        .key(format!("key-{}", number % KEYS))
        .attribute("tenantid", "acme")
        .header("x-bytes", &b"\x00\xff"[..])
        .payload(number.to_string())
        .build()
}

async fn publish(bus: &Bus, events: &[Envelope]) -> Result<()> {
    let topic = Topic::new("orders")?;
    let batch = events.iter().map(|event| (topic.clone(), event.clone()));
    let outcomes = bus.publish_raw(batch.collect()).await?;
    outcomes
        .into_iter()
        .try_for_each(|outcome| outcome.into_result().map(drop))
}

async fn bridge(from: &Bus, to: &Bus) -> Result<Workers> {
    from.group("outbox")
        .topics("orders")
        .bridge(to)
        .start()
        .await
}

/// Everything that `bus` holds, once `enough` says so.
async fn arrived(
    bus: &Bus,
    enough: impl Fn(&[Envelope]) -> bool + Send + Sync,
) -> Result<Vec<Envelope>> {
    let mut records = bus.replay(Pattern::exact("orders")).open().await?;
    let mut events = Vec::new();
    let reading = async {
        while !enough(&events) {
            events.extend(records.next().await?.map(|record| record.envelope));
        }
        Result::<()>::Ok(())
    };
    timeout(Duration::from_secs(600), reading).await.unwrap()?;
    Ok(events)
}

#[tokio::test(start_paused = true)]
async fn what_one_bus_has_the_other_gets_in_order_whoever_dies() -> Result<()> {
    let (from, to) = (bus().await?, bus().await?);
    let events: Vec<_> = (0..2_000).map(event).collect::<Result<_>>()?;
    for (round, part) in events.chunks(250).enumerate() {
        let workers = bridge(&from, &to).await?;
        publish(&from, part).await?;
        // It dies with some of them on their way.
        arrived(&to, |all| all.len() > round * 250).await?;
        workers.abort();
    }
    let workers = bridge(&from, &to).await?;
    let all = arrived(&to, |all| all.len() >= events.len()).await?;
    in_order(all, &events);
    workers
        .drain(Duration::from_secs(10))
        .await?
        .into_result()?;
    Ok(())
}

/// Each event of each key, in order. Copies have the id of the first, which memory recognises.
fn in_order(all: Vec<Envelope>, events: &[Envelope]) {
    let mut by_key: BTreeMap<Key, Vec<Envelope>> = BTreeMap::new();
    for event in all {
        by_key
            .entry(event.key().unwrap().clone())
            .or_default()
            .push(event);
    }
    assert_eq!(by_key.len(), KEYS);
    for (key, found) in by_key {
        let sent = events.iter().filter(|event| event.key() == Some(&key));
        assert_eq!(found, sent.cloned().collect::<Vec<_>>(), "{key:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_fails_is_waited_for_in_order() -> Result<()> {
    let from = bus().await?;
    let (target, faults) = Faulty::over(interline_memory::connect("memory://").await?);
    let to = Bus::new(target);
    let events: Vec<_> = (0..300).map(event).collect::<Result<_>>()?;
    for refusal in [
        Refusal::UnknownNotStored,
        Refusal::UnknownStored,
        Refusal::Rejected,
    ] {
        faults.refuse(Pattern::exact("orders"), refusal, 40);
    }
    publish(&from, &events).await?;
    let workers = bridge(&from, &to).await?;
    let all = arrived(&to, |all| all.len() >= events.len()).await?;
    in_order(all, &events);
    let stats = workers
        .drain(Duration::from_secs(10))
        .await?
        .into_result()?;
    assert!(stats.retried >= 120, "{stats:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_the_target_never_takes_is_a_dead_letter_and_its_key_goes_on() -> Result<()> {
    let memory = interline_memory::connect("memory://bridge").await?;
    let from = Bus::new(interline_memory::connect("memory://bridge").await?);
    let to = bus().await?;
    let topic = Topic::new("orders")?;
    let large = Some(vec![b'x'; interline_core::limits::MAX_PAYLOAD + 1].into());
    interline_memory::native::write_raw(&memory, &topic, Some(Bytes::from("key-0")), &[], large)?;
    publish(&from, &[event(0)?]).await?;
    let workers = bridge(&from, &to).await?;
    let all = arrived(&to, |all| all.len() == 1).await?;
    assert_eq!(all, [event(0)?.with_id(all[0].id().clone())]);
    workers
        .drain(Duration::from_secs(10))
        .await?
        .into_result()?;
    let letters = DeadLetters::open(from.transport().clone(), "orders.outbox.dlq").await?;
    let letters = letters.list(&Filter::default()).await?;
    assert_eq!(letters.len(), 1);
    assert!(letters[0].cause.text.contains("payload"), "{}", letters[0]);
    Ok(())
}
