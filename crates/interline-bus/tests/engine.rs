//! The engine over the memory transport, under a paused clock.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use interline_bus::{BatchOptions, Bus, Context, Handled, Item, State, Workers};
use interline_core::{Event, Result};
use interline_reliability::{DeadLetters, Fail, Filter, MemoryInbox, Redrive, Retry};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Placed {
    key: String,
    number: u32,
}

impl Event for Placed {
    const TYPE: &'static str = "shop.order.placed";
    const TOPIC: &'static str = "orders";
    type Codec = interline_json::Json;

    fn key(&self) -> Option<Cow<'_, [u8]>> {
        Some(self.key.as_bytes().into())
    }
}

fn placed(key: &str, number: u32) -> Placed {
    Placed {
        key: key.to_owned(),
        number,
    }
}

async fn bus() -> Bus {
    Bus::new(interline_memory::connect("memory://").await.unwrap()).source("/test")
}

/// What a handler does for so long.
async fn work(time: Duration) {
    tokio::time::sleep_until(Instant::now() + time).await;
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(120), future)
        .await
        .expect("no progress")
}

async fn drain(workers: Workers) -> interline_bus::GroupStats {
    let report = within(workers.drain(Duration::from_secs(10)))
        .await
        .unwrap();
    report.into_result().unwrap()
}

#[tokio::test(start_paused = true)]
async fn every_event_is_handled_once_in_the_order_of_its_key() -> Result<()> {
    let bus = bus().await;
    let (seen, mut handled) = mpsc::unbounded_channel();
    let workers = bus
        .group("g")
        .lanes(16)
        .on(move |event: Placed| {
            let seen = seen.clone();
            async move {
                work(Duration::from_millis(fastrand::u64(0..20))).await;
                seen.send(event).map_err(|_| "closed".permanent())
            }
        })
        .start()
        .await?;
    for number in 0..50 {
        let batch = (0..20).map(|key| placed(&format!("k{key}"), number));
        for outcome in bus.publish_all(batch).await? {
            assert!(outcome.is_ok());
        }
    }
    let mut next = std::collections::HashMap::new();
    for _ in 0..1_000 {
        let event = within(handled.recv()).await.unwrap();
        let expected = next.entry(event.key).or_insert(0);
        assert_eq!(event.number, *expected);
        *expected += 1;
    }
    let stats = drain(workers).await;
    assert_eq!((stats.handled, stats.failed), (1_000, 0));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_retry_keeps_its_key_waiting_and_no_other() -> Result<()> {
    let bus = bus().await;
    let (seen, mut handled) = mpsc::unbounded_channel();
    let workers = bus
        .group("g")
        .retry(Retry::fixed(Duration::from_secs(7)).max(3))
        .on(move |event: Placed, cx: Context| {
            let seen = seen.clone();
            async move {
                if event.number == 0 && event.key == "slow" && cx.attempt() < 3 {
                    return Err("not yet".transient());
                }
                seen.send((event, Instant::now()))
                    .map_err(|_| "closed".permanent())
            }
        })
        .start()
        .await?;
    let start = Instant::now();
    for event in [placed("slow", 0), placed("slow", 1), placed("fast", 0)] {
        bus.publish(event).await?;
    }
    let mut order = Vec::new();
    for _ in 0..3 {
        let (event, at) = within(handled.recv()).await.unwrap();
        order.push((
            event.key,
            event.number,
            at - start >= Duration::from_secs(14),
        ));
    }
    let order: Vec<_> = order
        .iter()
        .map(|(k, n, late)| (k.as_str(), *n, *late))
        .collect();
    assert_eq!(
        order,
        [("fast", 0, false), ("slow", 0, true), ("slow", 1, true)]
    );
    assert_eq!(drain(workers).await.retried, 2);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn poison_panics_and_timeouts_become_dead_letters_that_can_be_redriven() -> Result<()> {
    let bus = bus().await;
    let repaired = Arc::new(AtomicU32::new(0));
    let (seen, mut handled) = mpsc::unbounded_channel();
    let workers = bus
        .group("g")
        .state(Arc::clone(&repaired))
        .retry(Retry::exponential().max(2))
        .timeout(Duration::from_secs(5))
        .on(
            move |event: Placed, State(repaired): State<Arc<AtomicU32>>| {
                let seen = seen.clone();
                async move {
                    if repaired.load(Ordering::SeqCst) == 0 {
                        match event.number {
                            1 => return Err("broken".permanent()),
                            2 => panic!("boom"),
                            3 => std::future::pending().await,
                            _ => {}
                        }
                    }
                    seen.send(event.number).map_err(|_| "closed".permanent())
                }
            },
        )
        .start()
        .await?;
    for number in 0..5 {
        bus.publish(placed("same", number)).await?;
    }
    assert_eq!(within(handled.recv()).await, Some(0));
    assert_eq!(within(handled.recv()).await, Some(4));
    let letters = DeadLetters::open(bus.transport().clone(), "orders.g.dlq").await?;
    let all = letters.list(&Filter::default()).await?;
    let causes: Vec<_> = all
        .iter()
        .map(|l| (l.cause.kind.as_str(), l.cause.attempts))
        .collect();
    assert_eq!(causes, [("permanent", 1), ("panic", 2), ("timeout", 2)]);
    assert_eq!(all[0].cause.text, "broken");
    repaired.store(1, Ordering::SeqCst);
    let report = letters.redrive(Redrive::default()).await?;
    assert_eq!((report.matched, report.settled), (3, 3));
    let mut back = Vec::new();
    for _ in 0..3 {
        back.push(within(handled.recv()).await.unwrap());
    }
    assert_eq!(back, [1, 2, 3]);
    assert!(letters.list(&Filter::default()).await?.is_empty());
    assert_eq!(drain(workers).await.dead_lettered, 3);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_crash_replays_no_more_than_was_not_checkpointed_and_loses_nothing() -> Result<()> {
    let bus = bus().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let group = |bus: &Bus| {
        let (sender, receiver) = mpsc::unbounded_channel();
        let seen = Arc::clone(&seen);
        let builder = bus.group("g").lanes(8).on(move |event: Placed| {
            let (seen, sender) = (Arc::clone(&seen), sender.clone());
            async move {
                work(Duration::from_millis(fastrand::u64(1..30))).await;
                seen.lock().unwrap().push((event.key, event.number));
                let _ = sender.send(());
                Handled::Ok(())
            }
        });
        (builder, receiver)
    };
    for number in 0..25 {
        bus.publish_all((0..16).map(|k| placed(&format!("k{k}"), number)))
            .await?;
    }
    let (first, mut handled) = group(&bus);
    let first = first.start().await?;
    for _ in 0..150 {
        within(handled.recv()).await.unwrap();
    }
    first.abort();
    let (second, mut handled) = group(&bus);
    let second = second.start().await?;
    within(async {
        loop {
            let seen: std::collections::HashSet<_> = seen.lock().unwrap().iter().cloned().collect();
            if seen.len() == 400 {
                break;
            }
            handled.recv().await.unwrap();
        }
    })
    .await;
    let stats = drain(second).await;
    let replays = seen.lock().unwrap().len() - 400;
    assert!(replays <= 150, "{replays} replays");
    assert!(
        stats.handled < 400,
        "what the first one settled is not run again: {stats:?}"
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_inbox_keeps_a_second_copy_from_running() -> Result<()> {
    let bus = bus().await;
    let (seen, mut handled) = mpsc::unbounded_channel();
    let workers = bus
        .group("g")
        .topics("copies")
        .dedupe(MemoryInbox::default())
        .on(move |event: Placed| {
            let seen = seen.clone();
            async move { seen.send(event.number).map_err(|_| "closed".permanent()) }
        })
        .start()
        .await?;
    let id = interline_core::EventId::new();
    let copies = interline_core::Topic::new("copies")?;
    bus.publish(placed("a", 1)).id(id.clone()).await?;
    assert_eq!(within(handled.recv()).await, Some(1));
    bus.publish(placed("a", 1))
        .topic(copies.clone())
        .id(id)
        .await?;
    bus.publish(placed("a", 2)).topic(copies).await?;
    assert_eq!(within(handled.recv()).await, Some(2));
    assert_eq!(drain(workers).await.duplicates, 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn batches_fill_up_or_wait_and_settle_one_by_one() -> Result<()> {
    let bus = bus().await;
    let (seen, mut handled) = mpsc::unbounded_channel();
    let options = BatchOptions {
        max_size: 4,
        max_wait: Duration::from_millis(50),
    };
    let workers = bus
        .group("g")
        .retry(Retry::fixed(Duration::from_secs(1)).max(2))
        .on_batch(options, move |batch: Vec<Item<Placed>>| {
            let seen = seen.clone();
            async move {
                let numbers: Vec<_> = batch.iter().map(|item| item.event.number).collect();
                let _ = seen.send(numbers);
                let fails =
                    |item: &Item<Placed>| item.event.number == 2 && item.context.attempt() == 1;
                let outcome = |item| {
                    if fails(item) {
                        Err("again".transient())
                    } else {
                        Ok(())
                    }
                };
                batch.iter().map(outcome).collect::<Vec<Handled>>()
            }
        })
        .start()
        .await?;
    bus.publish_all((0..6).map(|n| placed(&format!("k{n}"), n)))
        .await?;
    let mut sizes = Vec::new();
    let mut numbers = Vec::new();
    while numbers.len() < 7 {
        let batch = within(handled.recv()).await.unwrap();
        sizes.push(batch.len());
        numbers.extend(batch);
    }
    assert_eq!(sizes, [4, 2, 1]);
    assert_eq!(numbers.pop(), Some(2));
    assert_eq!(drain(workers).await.retried, 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_what_runs_and_names_what_does_not_finish() -> Result<()> {
    let bus = bus().await;
    let (seen, mut started) = mpsc::unbounded_channel();
    let workers = bus
        .group("g")
        .on(move |event: Placed| {
            let seen = seen.clone();
            async move {
                let _ = seen.send(());
                let secs = if event.number == 0 { 2 } else { 20 };
                work(Duration::from_secs(secs)).await;
                Handled::Ok(())
            }
        })
        .start()
        .await?;
    bus.publish(placed("a", 0)).await?;
    bus.publish(placed("b", 1)).await?;
    within(started.recv()).await;
    within(started.recv()).await;
    let report = within(workers.drain(Duration::from_secs(5))).await?;
    assert_eq!(report.stats.handled, 1);
    assert_eq!(report.unfinished.len(), 1);
    let error = report.into_result().unwrap_err().to_string();
    assert!(error.contains("shop.order.placed"), "{error}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_event_that_kills_its_process_is_buried_unrun() -> Result<()> {
    let bus = bus().await;
    bus.publish_all([placed("a", 0), placed("b", 13), placed("c", 2)])
        .await?;
    let ran = Arc::new(Mutex::new(Vec::new()));
    let mut deaths = 0;
    loop {
        let (sender, mut told) = mpsc::unbounded_channel();
        let seen = Arc::clone(&ran);
        let workers = bus
            .group("g")
            .on(move |event: Placed| {
                let (seen, sender) = (Arc::clone(&seen), sender.clone());
                async move {
                    seen.lock().unwrap().push(event.number);
                    let _ = sender.send(event.number);
                    if event.number == 13 {
                        std::future::pending::<()>().await;
                    }
                    Handled::Ok(())
                }
            })
            .on_dead_letter({
                let ran = Arc::clone(&ran);
                move |letter| {
                    ran.lock()
                        .unwrap()
                        .push(u32::try_from(letter.cause.kind.len()).unwrap() + 1_000)
                }
            })
            .start()
            .await?;
        let died = tokio::time::timeout(Duration::from_secs(25), async {
            while told.recv().await.unwrap() != 13 {}
        })
        .await
        .is_ok();
        if !died {
            let stats = drain(workers).await;
            assert_eq!(stats.dead_lettered, 1);
            break;
        }
        deaths += 1;
        assert!(deaths < 12, "the event goes on killing");
        workers.abort();
    }
    assert!(deaths >= 3, "{deaths}");
    let ran = ran.lock().unwrap().clone();
    assert!(ran.contains(&0) && ran.contains(&2));
    let letters = DeadLetters::open(bus.transport().clone(), "orders.g.dlq").await?;
    let all = letters.list(&Filter::default()).await?;
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].cause.kind, "suspect");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_typed_handler_takes_every_type_of_its_pattern() -> Result<()> {
    let bus = bus().await;
    let (seen, mut handled) = mpsc::unbounded_channel();
    let (other, mut rest) = mpsc::unbounded_channel();
    let workers = bus
        .group("g")
        .topics("letters")
        .on_types("shop.order.*", move |event: Placed| {
            let seen = seen.clone();
            async move { seen.send(event).map_err(|_| "closed".permanent()) }
        })
        .on_raw("*", move |envelope: interline_core::Envelope| {
            let other = other.clone();
            async move {
                other
                    .send(envelope.ty().to_owned())
                    .map_err(|_| "closed".permanent())
            }
        })
        .start()
        .await?;
    let letters = interline_core::Topic::new("letters")?;
    for ty in ["shop.order.moved", "shop.order.moved.twice"] {
        let kind = interline_core::Kind::new("/test", ty)?;
        let envelope = interline_core::Envelope::builder(kind)
            .payload(r#"{"key":"k","number":7}"#)
            .build()?;
        for outcome in bus.publish_raw(vec![(letters.clone(), envelope)]).await? {
            assert!(outcome.is_ok());
        }
    }
    assert_eq!(within(handled.recv()).await, Some(placed("k", 7)));
    let raw = within(rest.recv()).await;
    assert_eq!(raw.as_deref(), Some("shop.order.moved.twice"));
    assert_eq!(drain(workers).await.handled, 2);
    Ok(())
}
