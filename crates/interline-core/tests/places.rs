//! Positions, progress and points in time.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use interline_core::{Position, Progress, Range, Timestamp};
use proptest::collection::btree_set;
use proptest::option;
use proptest::prelude::*;

/// The `n`th position of a partition whose positions are neither dense nor in one half.
fn nth(n: u64) -> Position {
    Position(n / 7, n % 7 * 10)
}

/// The set as ascending ranges; neighbours in the log share one.
fn ranges(done: &BTreeSet<u64>) -> Vec<Range> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for &n in done {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => ranges.push((n, n)),
        }
    }
    ranges
        .into_iter()
        .map(|(first, last)| Range {
            first: nth(first),
            last: nth(last),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn progress_is_a_set(frontier in option::of(0_u64..40), done in btree_set(0_u64..60, 0..40)) {
        let beyond = done.iter().copied().filter(|n| frontier.is_none_or(|f| *n > f)).collect();
        let progress = Progress {
            frontier: frontier.map(nth),
            done: ranges(&beyond),
            ..Progress::default()
        };
        for n in 0..70 {
            let settled = frontier.is_some_and(|f| n <= f) || beyond.contains(&n);
            prop_assert_eq!(progress.is_done(nth(n)), settled, "{} of {:?}", n, progress);
        }
    }

    #[test]
    fn positions_print_and_parse(high in prop_oneof![Just(0), any::<u64>()], low in any::<u64>()) {
        let position = Position(high, low);
        prop_assert_eq!(position.to_string().parse::<Position>().expect("its own print"), position);
    }

    #[test]
    fn positions_are_read_or_refused(text in prop_oneof!["[0-9-]{0,24}", any::<String>()]) {
        if let Ok(position) = text.parse::<Position>() {
            let printed = position.to_string();
            prop_assert_eq!(printed.parse::<Position>().expect("its own print"), position);
        }
    }

    #[test]
    fn times_of_every_year_print_and_parse(millis in -62_167_219_200_000_i64..253_402_300_800_000) {
        let time = Timestamp::from_unix_millis(millis);
        prop_assert_eq!(time.unix_millis(), millis);
        prop_assert_eq!(time.to_string().parse::<Timestamp>().expect("its own print"), time);
    }

    #[test]
    fn the_text_of_a_time_stays_as_it_is(
        (year, month, day) in (0_u32..10_000, 1_u32..13, 1_u32..29),
        (hour, minute, second) in (0_u32..24, 0_u32..60, 0_u32..60),
        fraction in option::of("[0-9]{0,8}[1-9]"),
        offset in prop_oneof![Just("Z".to_owned()), "[+-](0[1-9]|1[0-9]|2[0-3]):[0-5][0-9]"],
    ) {
        let fraction = fraction.map(|digits| format!(".{digits}")).unwrap_or_default();
        let text = format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{offset}"
        );
        let time: Timestamp = text.parse().expect(&text);
        prop_assert_eq!(time.to_string(), text);
    }

    #[test]
    fn times_are_read_or_refused(text in prop_oneof!["[0-9TZ:.+-]{0,30}", any::<String>()]) {
        if let Ok(time) = text.parse::<Timestamp>() {
            prop_assert_eq!(time.to_string().parse::<Timestamp>().expect("its own print"), time);
        }
    }

    #[test]
    fn every_time_can_be_printed(millis in any::<i64>(), after in any::<bool>()) {
        prop_assert!(!Timestamp::from_unix_millis(millis).to_string().is_empty());
        let span = Duration::from_millis(millis.unsigned_abs());
        let system = match after {
            true => SystemTime::UNIX_EPOCH.checked_add(span),
            false => SystemTime::UNIX_EPOCH.checked_sub(span),
        };
        if let Some(system) = system {
            prop_assert!(!Timestamp::from(system).to_string().is_empty());
        }
    }

    #[test]
    fn order_and_distance_agree(
        first in -62_167_219_200_000_i64..253_402_300_800_000,
        millis in 0_u64..1_000_000_000,
    ) {
        let second = first.saturating_add_unsigned(millis).min(253_402_300_799_999);
        let times = (Timestamp::from_unix_millis(first), Timestamp::from_unix_millis(second));
        prop_assert!(times.0 <= times.1);
        prop_assert_eq!(times.1.since(times.0), Duration::from_millis(second.abs_diff(first)));
        prop_assert_eq!(times.0.since(times.1), Duration::ZERO);
    }
}
