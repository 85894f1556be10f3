//! What is not tried again is kept, once, with its cause, and can be sent back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use interline_bus::Context;
use interline_core::{AnyTransport, Envelope, Event, EventId, Key, Kind, Pattern, Topic};
use interline_reliability::{
    AfterDeadLetter, DeadLetter, DeadLetterPolicy, Fail, Filter, Redrive, Retry, Unhandled,
};

use super::{foreign_writers, scenario};
use crate::checker::{attempts_of, each_once, none_missing, one_at_a_time};
use crate::event::Noted;
use crate::scene::{Run, Runs, Scene, interleaved, noting};
use crate::{Faulty, Foreign, Harness, Journal, Refusal, Scenario, Verdict, check, check_eq};

pub(crate) const ALL: &[Scenario] = &[
    scenario!(poison_is_kept_once_with_its_cause),
    scenario!(undecodable_bytes_are_kept_and_the_next_flows),
    scenario!(foreign_bytes_are_delivered_or_kept, foreign_writers),
    scenario!(malformed_foreign_attributes_do_no_harm, foreign_writers),
    scenario!(the_dead_letter_target_is_down),
    scenario!(two_groups_bury_the_same_event),
    scenario!(redrive_returns_to_the_group_alone),
    scenario!(redriven_poison_dies_again),
    scenario!(discarded_letters_are_gone),
    scenario!(a_partition_may_stop_after_a_dead_letter),
    scenario!(unhandled_types_are_acked_or_kept),
    scenario!(the_hook_hears_of_each_dead_letter),
];

/// Poison among good events: each becomes exactly one dead letter with its cause, its event
/// unchanged; everything else is handled.
async fn poison_is_kept_once_with_its_cause(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 3).await?;
    let events = interleaved(10, 10);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let poison = |key: &str, number: u64| number == 4 && (key == "key-2" || key == "key-7");
    let act = move |run: Run| async move {
        match (poison(&run.key, run.number), run.key.as_str()) {
            (true, "key-2") => Err("cannot be charged: card 4711".permanent()),
            (true, _) => Err("not now".transient()),
            _ => Ok(()),
        }
    };
    let retry = Retry::fixed(Duration::from_millis(20)).max(3);
    let group = scene.builder().retry(retry);
    let workers = group.on_raw("*", noting(&runs, 0, act)).start().await?;
    let letters = scene.letters(2).await?;
    scene.succeeded(&runs, events.len() - 2).await?;
    scene.finish(workers).await?;
    check_eq!(scene.letters(2).await?.len(), 2, "dead letters in the end");
    let good: Vec<_> = events
        .into_iter()
        .filter(|(key, n)| !poison(key, *n))
        .collect();
    each_once(&runs.all(), &good)?;
    let records = scene.records().await?;
    for letter in letters {
        let permanent = letter.envelope.key().is_some_and(|key| *key == "key-2");
        let (kind, text, attempts) = match permanent {
            true => ("permanent", "cannot be charged: card 4711", 1),
            false => ("transient", "not now", 3),
        };
        let cause = &letter.cause;
        check_eq!(
            (cause.kind.as_str(), cause.text.as_str()),
            (kind, text),
            "cause"
        );
        check_eq!(cause.attempts, attempts, "attempts");
        check!(!cause.handler.is_empty(), "the handler is not named");
        check!(
            cause.first_failure <= cause.last_failure,
            "the last failure came first"
        );
        let origin = &letter.origin;
        check_eq!(
            (&origin.group, origin.topic()),
            (&scene.group, scene.topic.clone()),
            "origin"
        );
        let original = records.iter().find(|(partition, record)| {
            *partition == origin.partition.index && record.position == origin.position
        });
        let original = original.map(|(_, record)| &record.envelope);
        check!(
            original == Some(&letter.envelope),
            "the event of a dead letter is changed"
        );
    }
    Ok(())
}

/// An event whose payload is not what its type promises is kept undecoded; the next one flows.
async fn undecodable_bytes_are_kept_and_the_next_flows(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let kind = Arc::new(Kind::new("/elsewhere", Noted::TYPE)?);
    let with = |payload: &'static [u8]| {
        let builder = Envelope::builder(Arc::clone(&kind)).key("same");
        Verdict::Ok(
            builder
                .build()?
                .with_payload(Some(Bytes::from_static(payload))),
        )
    };
    let bad = with(b"\xff\x00")?;
    scene
        .publish_all(vec![
            with(b"\0\0\0\x01good")?,
            bad.clone(),
            with(b"\0\0\0\x02good")?,
        ])
        .await?;
    let handled: Arc<Journal<u32>> = Arc::default();
    let journal = Arc::clone(&handled);
    let handler = move |noted: Noted| {
        journal.note(noted.number);
        async { Ok(()) }
    };
    let workers = scene.builder().on(handler).start().await?;
    let letters = scene.letters(1).await?;
    harness
        .until("two events", &handled, |all| (all.len() == 2).then_some(()))
        .await?;
    scene.drain(workers).await?;
    check_eq!(handled.all(), [1, 2], "handled events");
    check!(
        letters[0].is_undecodable(),
        "kind {}",
        letters[0].cause.kind
    );
    check_eq!(letters[0].cause.attempts, 1, "attempts");
    check!(
        letters[0].envelope == bad,
        "the undecodable event came back changed"
    );
    Ok(())
}

/// What a client writes that knows nothing of interline is delivered raw as it stands, and kept
/// as a dead letter where no handler takes it; what comes after flows.
async fn foreign_bytes_are_delivered_or_kept(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let payload = Bytes::from_static(b"{\"not\": \"an event\"\xff\x00");
    let foreign = Foreign {
        topic: scene.topic.clone(),
        key: Some(Bytes::from_static(b"\x01key")),
        headers: vec![("x-odd".to_owned(), Bytes::from_static(b"\xfe"))],
        payload: Some(payload.clone()),
    };
    harness.foreign(foreign.clone()).await?;
    let noted = Noted {
        key: "next".to_owned(),
        number: 7,
    };
    let _stored = scene
        .bus
        .publish(noted.clone())
        .topic(scene.topic.clone())
        .await?;
    let raw: Arc<Journal<Envelope>> = Arc::default();
    let journal = Arc::clone(&raw);
    let name = harness.fresh_group("raw")?;
    let group = scene.bus.group(name.as_str()).topics(scene.topic.as_str());
    let handler = move |envelope: Envelope| {
        journal.note(envelope);
        async { Ok(()) }
    };
    let raw_workers = group.on_raw("*", handler).start().await?;
    let typed: Arc<Journal<Noted>> = Arc::default();
    let journal = Arc::clone(&typed);
    let handler = move |noted: Noted| {
        journal.note(noted);
        async { Ok(()) }
    };
    let group = scene.builder().unhandled(Unhandled::DeadLetter);
    let workers = group.on(handler).start().await?;
    let letters = scene.letters(1).await?;
    harness
        .until("the next event", &typed, |all| {
            (!all.is_empty()).then_some(())
        })
        .await?;
    harness
        .until("both events", &raw, |all| (all.len() == 2).then_some(()))
        .await?;
    scene.drain(workers).await?;
    scene.drain(raw_workers).await?;
    check_eq!(typed.all(), [noted], "typed events");
    for found in [&raw.all()[0], &letters[0].envelope] {
        check_eq!(found.payload(), Some(&payload), "payload");
        check_eq!(found.key().map(Key::to_bytes), foreign.key, "key");
        let odd = found.headers().get("x-odd");
        check_eq!(odd, Some(&Bytes::from_static(b"\xfe")), "header");
    }
    check!(
        raw.all()[0].is_foreign(),
        "it does not say that it is foreign"
    );
    check!(
        !raw.all()[1].is_foreign(),
        "an own event is taken for a foreign one"
    );
    Ok(())
}

/// Attributes that are wrong in every way are delivered as something, once, and stop nothing.
async fn malformed_foreign_attributes_do_no_harm(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let long = Bytes::from(vec![b'i'; 5_000]);
    let sets: Vec<Vec<(&str, Bytes)>> = vec![
        vec![("ce_specversion", Bytes::from_static(b"9.9"))],
        vec![("ce_specversion", Bytes::from_static(b"1.0"))],
        vec![
            ("ce_specversion", Bytes::from_static(b"1.0")),
            ("ce_id", long),
        ],
        vec![
            ("ce_id", Bytes::from_static(b"\xff\xfe")),
            ("ce_type", Bytes::new()),
        ],
        vec![
            ("ce_time", Bytes::from_static(b"yesterday")),
            ("ce_source", Bytes::from_static(b"\n")),
        ],
        vec![(
            "content-type",
            Bytes::from_static(b"application/cloudevents+json"),
        )],
        vec![("interline-due", Bytes::from_static(b"99999999999999"))],
        vec![("interline-attempts", Bytes::from_static(b"4000000000"))],
        (0..300).map(|_| ("x", Bytes::from_static(b"y"))).collect(),
    ];
    let count = sets.len();
    for headers in sets {
        let headers = headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        let foreign = Foreign {
            topic: scene.topic.clone(),
            key: Some(Bytes::from_static(b"k")),
            headers,
            payload: Some(Bytes::from_static(b"{cut short")),
        };
        harness.foreign(foreign).await?;
    }
    scene.publish(&[("last".to_owned(), 0)]).await?;
    let seen: Arc<Journal<(Envelope, u32)>> = Arc::default();
    let journal = Arc::clone(&seen);
    let handler = move |context: Context| {
        journal.note((context.envelope().clone(), context.attempt()));
        async { Ok(()) }
    };
    let workers = scene.builder().on_raw("*", handler).start().await?;
    harness
        .until("every event", &seen, |all| {
            (all.len() > count).then_some(())
        })
        .await?;
    scene.finish(workers).await?;
    let seen = seen.all();
    check_eq!(seen.len(), count + 1, "deliveries");
    let ids: BTreeSet<EventId> = seen.iter().map(|(e, _)| e.id().clone()).collect();
    check_eq!(ids.len(), seen.len(), "different ids");
    check!(
        seen.iter().all(|(_, attempt)| *attempt == 1),
        "a forged count of attempts is believed"
    );
    Ok(())
}

/// While the dead-letter topic takes nothing, the event stays unsettled, its handler does not run
/// again, other keys go on; afterwards it is kept once.
async fn the_dead_letter_target_is_down(harness: &Harness) -> Verdict {
    let (faulty, faults) = Faulty::over(harness.connect().await?);
    let scene = Scene::over(harness, AnyTransport::new(faulty), 1).await?;
    let dlq = Pattern::exact(scene.topic.dlq(&scene.group).as_str());
    faults.refuse(dlq.clone(), Refusal::Rejected, 2);
    faults.refuse(dlq.clone(), Refusal::UnknownNotStored, 1);
    faults.refuse(dlq, Refusal::Rejected, usize::MAX);
    let events = interleaved(4, 5);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let poison = |key: &str, number: u64| key == "key-0" && number == 0;
    let act = move |run: Run| async move {
        if poison(&run.key, run.number) {
            Err("poison".permanent())
        } else {
            Ok(())
        }
    };
    let workers = scene.start(&runs, 0, act).await?;
    // Three keys end; the fourth waits behind its dead letter.
    scene.succeeded(&runs, 15).await?;
    check_eq!(
        workers.stats().dead_lettered,
        0,
        "dead letters while nothing takes them"
    );
    check!(
        scene.letters(0).await?.is_empty(),
        "a dead letter was stored after all"
    );
    let all = runs.all();
    check_eq!(
        attempts_of(&all, "key-0", 1).count(),
        0,
        "runs of the next event of the key"
    );
    faults.accept();
    scene.letters(1).await?;
    scene.succeeded(&runs, events.len() - 1).await?;
    scene.finish(workers).await?;
    let all = runs.all();
    check_eq!(
        attempts_of(&all, "key-0", 0).count(),
        1,
        "runs of the poison"
    );
    let good: Vec<_> = events
        .into_iter()
        .filter(|(key, n)| !poison(key, *n))
        .collect();
    each_once(&all, &good)?;
    check_eq!(scene.letters(1).await?.len(), 1, "dead letters");
    Ok(())
}

/// Two groups that bury the same event in one topic leave two letters, one of each.
async fn two_groups_bury_the_same_event(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    // Interline's own headers are believed on its own topics only.
    let graves = Topic::system(format!("{}.dlq", harness.fresh_topic("conf.graves")?))?;
    scene.publish(&interleaved(1, 1)).await?;
    let mut names = BTreeSet::new();
    let mut workers = Vec::new();
    for _ in 0..2 {
        let name = harness.fresh_group("grave")?;
        let group = scene.bus.group(name.as_str()).topics(scene.topic.as_str());
        let group = group.dead_letter(DeadLetterPolicy::to(graves.clone()));
        let handler = |_: Envelope| async { Err("poison".permanent()) };
        workers.push(group.on_raw("*", handler).start().await?);
        names.insert(name);
    }
    for workers in workers {
        let buried = || async { Ok(workers.stats().dead_lettered == 1) };
        harness
            .eventually("a dead letter of each group", buried)
            .await?;
        scene.drain(workers).await?;
    }
    let letters =
        interline_reliability::DeadLetters::open(scene.transport.clone(), graves.as_str());
    let letters = letters.await?.list(&Filter::default()).await?;
    let groups: BTreeSet<_> = letters
        .iter()
        .map(|letter| letter.origin.group.clone())
        .collect();
    check_eq!(groups, names, "groups of the dead letters");
    check_eq!(letters.len(), 2, "dead letters");
    check_eq!(
        letters[0].envelope.id(),
        letters[1].envelope.id(),
        "ids of the event"
    );
    Ok(())
}

/// A redriven event comes back to the group that it died in, and to no other, unchanged; its
/// letter is settled.
async fn redrive_returns_to_the_group_alone(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    let events = interleaved(6, 1);
    scene.publish(&events).await?;
    let (runs, others) = (Runs::default(), Runs::default());
    let repaired = Arc::new(crate::Gate::shut());
    let fixed = Arc::clone(&repaired);
    let act = move |_| {
        let fixed = Arc::clone(&fixed);
        async move {
            let broken = tokio::time::timeout(Duration::ZERO, fixed.pass())
                .await
                .is_err();
            if broken {
                Err("broken".permanent())
            } else {
                Ok(())
            }
        }
    };
    let workers = scene.start(&runs, 0, act).await?;
    let other = scene.bus.group(harness.fresh_group("other")?.as_str());
    let other = other.topics(scene.topic.as_str());
    let other = other
        .on_raw("*", noting(&others, 0, |_| async { Ok(()) }))
        .start()
        .await?;
    scene.letters(events.len()).await?;
    repaired.open();
    let letters = scene.dead_letters().await?;
    let dry = letters.redrive(Redrive::default().dry_run(true)).await?;
    check_eq!((dry.matched, dry.settled), (6, 0), "a dry run");
    let report = letters.redrive(Redrive::default().limit(2)).await?;
    check_eq!((report.matched, report.settled), (2, 2), "a redrive of two");
    scene.succeeded(&runs, 2).await?;
    letters.redrive(Redrive::default()).await?;
    scene.succeeded(&runs, events.len()).await?;
    check!(
        scene.letters(0).await?.is_empty(),
        "redriven letters are still open"
    );
    scene.finish(workers).await?;
    scene.succeeded(&others, events.len()).await?;
    scene.drain(other).await?;
    each_once(&runs.all(), &events)?;
    each_once(&others.all(), &events)
}

/// Poison that is redriven dies again as a letter of its own that counts the redrives.
async fn redriven_poison_dies_again(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    scene.publish(&interleaved(1, 1)).await?;
    let handler = |_: Envelope| async { Err("still poison".permanent()) };
    let workers = scene.builder().on_raw("*", handler).start().await?;
    let mut ids = BTreeSet::new();
    for redriven in 0..3 {
        let letters = scene.dead_letters().await?;
        let reopened = || async {
            let open = letters.list(&Filter::default()).await?;
            Ok(open
                .first()
                .is_some_and(|letter| letter.redriven == redriven))
        };
        harness
            .eventually("the letter of the last redrive", reopened)
            .await?;
        let open = letters.list(&Filter::default()).await?;
        let [letter] = open.as_slice() else {
            check!(false, "{} open letters", open.len());
            break;
        };
        check!(ids.insert(letter.id()), "two letters have one id");
        let original = &scene.records().await?.remove(0).1.envelope;
        check!(letter.envelope == *original, "the event changed on its way");
        letters.redrive(Redrive::default()).await?;
    }
    scene.drain(workers).await?;
    Ok(())
}

/// Discarded letters are settled without being sent anywhere; a filter chooses which.
async fn discarded_letters_are_gone(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 1).await?;
    let events = interleaved(4, 1);
    scene.publish(&events).await?;
    let runs = Runs::default();
    let act = |run: Run| async move { Err(format!("poison of {}", run.key).permanent()) };
    let workers = scene.start(&runs, 0, act).await?;
    let open = scene.letters(4).await?;
    let letters = scene.dead_letters().await?;
    let id = open[1].id();
    check_eq!(letters.get(&id).await?, open[1], "the letter by its id");
    let report = letters
        .discard(&Filter::default().id(id.clone()), false)
        .await?;
    check_eq!((report.matched, report.settled), (1, 1), "a discard of one");
    let left: Vec<String> = scene.letters(3).await?.iter().map(DeadLetter::id).collect();
    check!(!left.contains(&id), "the discarded letter is still open");
    letters.discard(&Filter::default(), false).await?;
    check!(scene.letters(0).await?.is_empty(), "letters are still open");
    scene.finish(workers).await?;
    check_eq!(runs.all().len(), 8, "beginnings and ends of runs");
    Ok(())
}

/// With that policy a dead letter stops its partition, and no other.
async fn a_partition_may_stop_after_a_dead_letter(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    let runs = Runs::default();
    let act = |run: Run| async move {
        if run.number == 1 {
            Err("poison".permanent())
        } else {
            Ok(())
        }
    };
    let policy = DeadLetterPolicy::default().then(AfterDeadLetter::StopPartition);
    let group = scene.builder().dead_letter(policy);
    let workers = group.on_raw("*", noting(&runs, 0, act)).start().await?;
    let events = interleaved(12, 1);
    scene.publish(&events).await?;
    scene.succeeded(&runs, 12).await?;
    scene.publish(&[("key-0".to_owned(), 1)]).await?;
    scene.letters(1).await?;
    let halted = || async { Ok(workers.stats().halted == 1) };
    harness.eventually("the partition to stop", halted).await?;
    let records = scene.records().await?;
    let stopped = records
        .iter()
        .find(|(_, r)| crate::scene::key_of(&r.envelope) == "key-0");
    let stopped = stopped.map(|(partition, _)| *partition);
    let elsewhere = |key: &String| {
        let mut of = records
            .iter()
            .filter(|(_, r)| crate::scene::key_of(&r.envelope) == *key);
        of.all(|(partition, _)| Some(*partition) != stopped)
    };
    let more: Vec<_> = events.iter().map(|(key, _)| (key.clone(), 2)).collect();
    scene.publish(&more).await?;
    let flowing: Vec<_> = more.into_iter().filter(|(key, _)| elsewhere(key)).collect();
    check!(
        !flowing.is_empty(),
        "twelve keys share one of two partitions"
    );
    scene.succeeded(&runs, 12 + flowing.len()).await?;
    workers.drain(harness.deadline()).await?;
    let all = runs.all();
    none_missing(&all, &flowing)?;
    one_at_a_time(&all)?;
    check_eq!(
        crate::checker::succeeded(&all).count(),
        12 + flowing.len(),
        "runs"
    );
    Ok(())
}

/// An event whose type has no handler is acked and counted, or kept as a dead letter by choice.
async fn unhandled_types_are_acked_or_kept(harness: &Harness) -> Verdict {
    for (unhandled, letters) in [(Unhandled::Ack, 0), (Unhandled::DeadLetter, 3)] {
        let scene = Scene::new(harness, 1).await?;
        scene.publish(&interleaved(3, 1)).await?;
        let group = scene.builder().unhandled(unhandled);
        let handler = |_: Envelope| async { Ok(()) };
        let workers = group.on_raw("another.type", handler).start().await?;
        scene.settled().await?;
        let report = scene.drain(workers).await?;
        check_eq!(
            report.stats.unhandled,
            3 - letters as u64,
            "acked without a handler"
        );
        let kept = scene.letters(letters).await?;
        let kinds: BTreeSet<_> = kept
            .iter()
            .map(|letter| letter.cause.kind.as_str())
            .collect();
        check!(
            kinds.iter().all(|kind| *kind == "unhandled"),
            "kinds {kinds:?}"
        );
    }
    Ok(())
}

/// The hook is called once for each stored dead letter.
async fn the_hook_hears_of_each_dead_letter(harness: &Harness) -> Verdict {
    let scene = Scene::new(harness, 2).await?;
    let events = interleaved(5, 1);
    scene.publish(&events).await?;
    let heard: Arc<Journal<String>> = Arc::default();
    let journal = Arc::clone(&heard);
    let hook = move |letter: &DeadLetter| journal.note(letter.id());
    let handler = |_: Envelope| async { Err("poison".permanent()) };
    let group = scene.builder().on_dead_letter(hook);
    let workers = group.on_raw("*", handler).start().await?;
    let letters = scene.letters(events.len()).await?;
    harness
        .until("the hook", &heard, |all| (all.len() == 5).then_some(()))
        .await?;
    scene.drain(workers).await?;
    let heard: BTreeSet<_> = heard.all().into_iter().collect();
    let stored: BTreeSet<_> = letters.iter().map(DeadLetter::id).collect();
    check_eq!(heard, stored, "ids");
    Ok(())
}
