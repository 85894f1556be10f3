use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

prop_compose! {
    fn any_position()(high in prop_oneof![Just(0_u64), any::<u64>()], low in any::<u64>()) -> Position {
        Position(high, low)
    }
}

prop_compose! {
    /// Whatever the positions: ascending ones as the engine makes them, and any others.
    fn any_progress()(
        frontier in option::of(any_position()),
        done in vec((any_position(), any_position()), 0..200),
        attempts in vec((any_position(), any::<u32>()), 0..64),
        unclean in any::<u8>(),
        suspect in option::of((any_position(), any::<u8>())),
    ) -> Progress {
        Progress {
            frontier,
            done: done.into_iter().map(|(first, last)| Range { first, last }).collect(),
            attempts,
            unclean,
            suspect: suspect.map(|(position, deaths)| Suspect { position, deaths }),
        }
    }
}

/// A partition as it looks in practice: short gaps and ranges behind a large frontier.
fn dense(ranges: u64) -> Progress {
    let frontier = 1 << 40;
    Progress {
        frontier: Some(Position::from(frontier)),
        done: (0..ranges)
            .map(|n| Range {
                first: Position::from(frontier + 10 * n + 2),
                last: Position::from(frontier + 10 * n + 8),
            })
            .collect(),
        ..Progress::default()
    }
}

proptest! {
    #[test]
    fn what_fits_is_read_back(progress in any_progress()) {
        let text = encode(&progress, 1 << 20);
        prop_assert_eq!(decode(&text).unwrap(), progress);
    }

    #[test]
    fn what_does_not_fit_is_cut_at_the_far_end(progress in any_progress(), max in 64_usize..512) {
        let text = encode(&progress, max);
        prop_assert!(text.len() <= max && text.is_ascii());
        let back = decode(&text).unwrap();
        prop_assert_eq!(back.frontier, progress.frontier);
        prop_assert_eq!(back.unclean, progress.unclean);
        prop_assert_eq!(back.suspect, progress.suspect);
        prop_assert!(progress.done.starts_with(&back.done));
        prop_assert!(progress.attempts.starts_with(&back.attempts));
    }

    #[test]
    fn garbage_is_an_error_or_a_progress(text in "[A-Za-z0-9_-]{0,64}") {
        if let Ok(progress) = decode(&text) {
            prop_assert_eq!(decode(&encode(&progress, 1 << 20)).unwrap(), progress);
        }
    }

    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        let _ = decode(&text).is_ok();
    }
}

#[test]
fn kafkas_metadata_holds_more_than_seven_hundred_ranges() {
    let progress = dense(2_000);
    let back = decode(&encode(&progress, 4_096)).unwrap();
    assert!(back.done.len() > 700, "{}", back.done.len());
    assert!(decode(&encode(&dense(700), 4_096)).unwrap() == dense(700));
}

#[test]
fn other_texts_are_refused() {
    for text in ["", "{}", "AQ", "AgAA", "AQAAAQ", "AQAA____________AA"] {
        let error = decode(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Undecodable, "{text}");
    }
}
