//! Names: exactly the documented alphabet, and no two system topics alike.

use interline_core::{
    Group, HeaderName, Instance, MAX_GROUP, MAX_TOPIC, RESERVED_PREFIXES, Topic,
    check_attribute_name,
};
use proptest::prelude::*;

/// The grammar of topics, read character by character: the state is whether a token has begun.
fn is_topic(name: &str) -> bool {
    let begun = name.chars().try_fold(false, |begun, c| match c {
        'A'..='Z' | 'a'..='z' | '0'..='9' | '-' | '_' => Some(true),
        '.' if begun => Some(false),
        _ => None,
    });
    begun == Some(true) && name.len() <= 120
}

fn is_group(name: &str) -> bool {
    is_topic(name) && !name.contains('.') && name.len() <= 64
}

fn is_reserved(name: &str) -> bool {
    name.split('.').count() > 1 && matches!(name.split('.').next_back(), Some("retry" | "dlq"))
}

/// Names near the edge of the alphabet, and anything else.
fn anything() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[A-Za-z0-9_.-]{0,12}",
        2 => "([a-z]{1,3}\\.){0,2}(retry|dlq|RETRY|xdlq|x)",
        1 => "[a-z]{60,70}",
        1 => "[a-z]{60}\\.[a-z]{54,64}",
        2 => "[a-z@/:>*é \\n\\t#$%{}.]{0,6}",
        1 => any::<String>(),
    ]
}

fn topics() -> impl Strategy<Value = Topic> {
    // Tokens that look like the endings are where two names could meet.
    let token = "[a-c_-]{1,2}|retry|dlq|billing";
    proptest::collection::vec(token, 1..4)
        .prop_filter_map("reserved", |tokens| Topic::new(tokens.join(".")).ok())
}

fn groups() -> impl Strategy<Value = Group> {
    "[a-c_-]{1,2}|retry|dlq|billing".prop_filter_map("illegal", |name| Group::new(name).ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_alphabet_is_the_documented_one(name in anything()) {
        let topic = Topic::new(&name);
        prop_assert_eq!(topic.is_ok(), is_topic(&name) && !is_reserved(&name), "{:?}", name);
        prop_assert_eq!(Group::new(&name).is_ok(), is_group(&name));
        prop_assert_eq!(Instance::new(&name).is_ok(), is_group(&name));
        if let Ok(topic) = topic {
            prop_assert_eq!(topic.as_str(), &name);
            prop_assert!(!topic.is_system());
            prop_assert_eq!(topic.origin(), None);
            prop_assert_eq!(Topic::system(&name).expect("every topic"), topic);
        }
    }

    #[test]
    fn errors_show_names_on_one_short_line(name in anything()) {
        if let Err(error) = Topic::new(&name) {
            let shown = error.to_string();
            prop_assert!(!shown.chars().any(char::is_control), "{:?}", shown);
            prop_assert!(shown.len() < 1_000);
        }
    }

    #[test]
    fn system_topics_are_injective(
        first in (topics(), groups(), any::<bool>()),
        second in (topics(), groups(), any::<bool>()),
    ) {
        let make = |(topic, group, retry): &(Topic, Group, bool)| match retry {
            true => topic.retry(group),
            false => topic.dlq(group),
        };
        let (one, other) = (make(&first), make(&second));
        prop_assert_eq!(one == other, first == second);
        prop_assert_eq!(one.origin(), Some((first.0.clone(), first.1.clone())));
        prop_assert_eq!((one.is_retry(), one.is_dlq()), (first.2, !first.2));
        prop_assert!(Topic::new(&one).is_err(), "no caller can take the name");
        prop_assert_eq!(Topic::system(&one).expect("its own name"), one);
    }

    #[test]
    fn any_system_topic_has_at_most_one_origin(name in anything()) {
        if let Ok(topic) = Topic::system(&name)
            && let Some((origin, group)) = topic.origin()
        {
            let made = if topic.is_retry() { origin.retry(&group) } else { origin.dlq(&group) };
            prop_assert_eq!(made, topic);
        }
    }

    #[test]
    fn attribute_names_are_lower_case_letters_and_digits(
        name in prop_oneof!["[a-z0-9]{0,70}", "[a-zA-Z_é-]{1,4}", "id|time|data|type|partitionkey"],
    ) {
        let fields = [
            "id", "source", "specversion", "type", "datacontenttype", "dataschema", "subject",
            "time", "data", "database64", "partitionkey", "interlinekey", "interlineheaders",
        ];
        let legal = (1..=64).contains(&name.len())
            && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9'))
            && !fields.contains(&&*name);
        prop_assert_eq!(check_attribute_name(&name).is_ok(), legal);
    }

    #[test]
    fn reserved_headers_are_refused_in_any_case(
        prefix in proptest::sample::select(&RESERVED_PREFIXES[..]),
        rest in "[a-z]{0,5}",
        flips in any::<u64>(),
    ) {
        let name: String = format!("{prefix}{rest}")
            .chars()
            .enumerate()
            .map(|(i, c)| if flips >> (i % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c })
            .collect();
        prop_assert!(HeaderName::new(name).is_err());
    }
}

#[test]
fn the_longest_names_make_a_system_topic_that_every_transport_takes() {
    let topic = Topic::new("t".repeat(MAX_TOPIC)).unwrap();
    let group = Group::new("g".repeat(MAX_GROUP)).unwrap();
    let system = topic.retry(&group);
    assert!(system.as_str().len() < 249);
    assert_eq!(
        Topic::system(&system).unwrap().origin(),
        Some((topic, group))
    );
}
