//! Patterns against a matcher that follows the definition, token by token.

use interline_core::{Group, Pattern, SubscribeSpec, Topic};
use proptest::collection::vec;
use proptest::prelude::*;

/// `*` is one token, a last `**` one or more.
fn fits(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (["**"], [_, ..]) => true,
        (["*", pattern @ ..], [_, name @ ..]) => fits(pattern, name),
        ([want, pattern @ ..], [token, name @ ..]) => want == token && fits(pattern, name),
        _ => false,
    }
}

fn naive(pattern: &str, name: &str) -> bool {
    let (wanted, tokens): (Vec<&str>, Vec<&str>) =
        (pattern.split('.').collect(), name.split('.').collect());
    matches!(pattern, "*" | "**") || fits(&wanted, &tokens)
}

fn is_legal(text: &str) -> bool {
    let tokens: Vec<&str> = text.split('.').collect();
    tokens.iter().enumerate().all(|(i, token)| match *token {
        "*" => true,
        "**" => i + 1 == tokens.len(),
        token => !token.is_empty() && !token.contains('*'),
    })
}

fn dotted(token: &'static str, max: usize) -> impl Strategy<Value = String> {
    vec(token, 1..max).prop_map(|tokens| tokens.join("."))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn matches_as_defined(
        pattern in dotted("a|b|ab|\\*|\\*\\*", 5),
        name in dotted("a|b|ab", 6),
    ) {
        match Pattern::new(&pattern) {
            Ok(parsed) => prop_assert_eq!(
                parsed.matches(&name), naive(&pattern, &name), "{} on {}", pattern, name
            ),
            Err(_) => prop_assert!(!is_legal(&pattern), "{}", pattern),
        }
    }

    #[test]
    fn accepts_what_is_legal_and_nothing_else(
        text in prop_oneof!["[a*.]{0,8}", any::<String>()],
    ) {
        prop_assert_eq!(Pattern::new(&text).is_ok(), is_legal(&text), "{:?}", text);
    }

    #[test]
    fn prints_what_it_reads(text in prop_oneof!["[a-b*.]{0,8}", any::<String>()]) {
        if let Ok(pattern) = Pattern::new(&text) {
            let printed = pattern.to_string();
            let canonical = if text == "**" { "*" } else { &*text };
            prop_assert_eq!(&printed, canonical);
            prop_assert_eq!(printed.parse::<Pattern>().expect("its own print"), pattern);
        }
    }

    #[test]
    fn a_name_matches_itself_alone(name in dotted("[a-c]{1,2}", 4), other in dotted("[a-c]{1,2}", 4)) {
        for pattern in [Pattern::exact(&name), Pattern::new(&name).expect("no star")] {
            prop_assert_eq!(pattern.as_exact(), Some(&*name));
            prop_assert_eq!(pattern.matches(&other), name == other);
        }
    }

    #[test]
    fn a_star_never_covers_system_topics_of_others(
        pattern in dotted("a|\\*|\\*\\*", 4),
        topic in dotted("a|b", 3),
        group in "[gh]",
        retry in any::<bool>(),
    ) {
        let Ok(pattern) = Pattern::new(&pattern) else { return Ok(()) };
        let topic = Topic::new(topic).expect("legal");
        let (mine, group) = (Group::new("g").expect("legal"), Group::new(group).expect("legal"));
        let spec = SubscribeSpec::new(mine.clone(), vec![pattern.clone()]);
        let system = if retry { topic.retry(&group) } else { topic.dlq(&group) };
        prop_assert_eq!(spec.covers(&topic), pattern.matches(topic.as_str()));
        // A group gets back what it reads itself, and nothing else.
        let own = retry && group == mine && spec.covers(&topic);
        prop_assert_eq!(spec.covers(&system), own);
    }
}
