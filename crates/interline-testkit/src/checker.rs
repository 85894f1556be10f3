//! What must hold of the runs of a scenario, whatever happened.

use std::collections::{BTreeMap, BTreeSet};

use crate::scene::{Run, What};
use crate::{Verdict, check};

/// No two runs of one key overlap.
pub(crate) fn one_at_a_time(runs: &[Run]) -> Verdict {
    let mut running: BTreeMap<&str, &Run> = BTreeMap::new();
    for run in runs {
        if run.what != What::Began {
            running.remove(run.key.as_str());
        } else if let Some(other) = running.insert(&run.key, run) {
            check!(
                false,
                "events {} and {} of {} ran at the same time",
                other.number,
                run.number,
                run.key
            );
        }
    }
    Ok(())
}

/// No event begins before every earlier one of its key has succeeded, where numbers of a key
/// count from 0.
pub(crate) fn in_key_order(runs: &[Run]) -> Verdict {
    in_key_order_but_for(runs, &|_, _| false)
}

/// As [`in_key_order`], except that events for which `skipped` says yes need not succeed.
pub(crate) fn in_key_order_but_for(runs: &[Run], skipped: &dyn Fn(&str, u64) -> bool) -> Verdict {
    let mut next: BTreeMap<&str, u64> = BTreeMap::new();
    for run in runs {
        let next = next.entry(&run.key).or_insert(0);
        while skipped(&run.key, *next) {
            *next += 1;
        }
        match run.what {
            What::Began => check!(
                run.number <= *next || skipped(&run.key, run.number),
                "event {} of {} began before event {} had succeeded",
                run.number,
                run.key,
                next
            ),
            What::Succeeded if run.number == *next => *next += 1,
            _ => {}
        }
    }
    Ok(())
}

/// Every event succeeded at least once.
pub(crate) fn none_missing(runs: &[Run], published: &[(String, u64)]) -> Verdict {
    let done: BTreeSet<(&str, u64)> = succeeded(runs).collect();
    let missing = published
        .iter()
        .filter(|(key, number)| !done.contains(&(key.as_str(), *number)));
    let missing: Vec<_> = missing.collect();
    check!(
        missing.is_empty(),
        "{} of {} events are lost, the first is {:?}",
        missing.len(),
        published.len(),
        missing.first()
    );
    Ok(())
}

/// Every event succeeded exactly once.
pub(crate) fn each_once(runs: &[Run], published: &[(String, u64)]) -> Verdict {
    none_missing(runs, published)?;
    let runs = succeeded(runs).count();
    check!(
        runs == published.len(),
        "{runs} runs succeeded for {} events",
        published.len()
    );
    Ok(())
}

/// What succeeded, in order.
pub(crate) fn succeeded(runs: &[Run]) -> impl Iterator<Item = (&str, u64)> {
    let done = runs.iter().filter(|run| run.what == What::Succeeded);
    done.map(|run| (run.key.as_str(), run.number))
}

/// The attempts that began for one event.
pub(crate) fn attempts_of<'a>(
    runs: &'a [Run],
    key: &str,
    number: u64,
) -> impl Iterator<Item = &'a Run> {
    let of = move |run: &&Run| run.key == key && run.number == number;
    runs.iter().filter(of).filter(|run| run.what == What::Began)
}
