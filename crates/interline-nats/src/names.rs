//! Names as the server knows them.

use interline_core::{Group, Result, Topic};
use interline_transport::settings::config;

/// The longest namespace in bytes: with it the longest stream name stays below the server's 255.
const MAX_NAMESPACE: usize = 60;

/// What stands for the dot of a name. Neither stream names nor tokens of subjects may have one,
/// and no name of ours holds this character, so that no two names meet.
const DOT: &str = "=";

/// What divides the namespace from a topic in a stream's name; no name of ours holds it.
const DIVIDER: char = '+';

/// Streams of the server's own key-value and object stores begin like this. A topic of such a
/// name gets a [`DOT`] in front, which no other topic can have there.
const RESERVED: [&str; 3] = ["KV_", "OBJ_", "MQTT_"];

/// Names in one namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    namespace: Option<String>,
}

impl Names {
    /// # Errors
    /// For a namespace that is no legal topic name or too long.
    pub(crate) fn new(namespace: Option<&str>) -> Result<Self> {
        let Some(namespace) = namespace else {
            return Ok(Self::default());
        };
        let name = Topic::new(namespace)?;
        if namespace.len() > MAX_NAMESPACE {
            return Err(config(
                "the namespace is too long",
                format!("use at most {MAX_NAMESPACE} bytes"),
            ));
        }
        Ok(Self {
            namespace: Some(token(name.as_str())),
        })
    }

    /// The stream that holds a topic.
    pub(crate) fn stream(&self, topic: &Topic) -> String {
        let topic = token(topic.as_str());
        let escape = RESERVED.iter().any(|prefix| topic.starts_with(prefix));
        match &self.namespace {
            Some(namespace) => format!("{namespace}{DIVIDER}{topic}"),
            None if escape => format!("{DOT}{topic}"),
            None => topic,
        }
    }

    /// The topic that a stream holds, if it is one of this namespace.
    pub(crate) fn to_topic(&self, stream: &str) -> Option<Topic> {
        let topic = match &self.namespace {
            Some(namespace) => stream.strip_prefix(namespace)?.strip_prefix(DIVIDER)?,
            None if RESERVED.iter().any(|prefix| stream.starts_with(prefix)) => return None,
            None => stream.strip_prefix(DOT).unwrap_or(stream),
        };
        let topic = Topic::system(topic.replace(DOT, ".")).ok()?;
        (self.stream(&topic) == stream).then_some(topic)
    }

    /// The subject of a partition.
    pub(crate) fn subject(&self, topic: &Topic, partition: u32) -> String {
        let topic = token(topic.as_str());
        match &self.namespace {
            Some(namespace) => format!("{namespace}.{topic}.{partition}"),
            None => format!("{topic}.{partition}"),
        }
    }

    /// The bucket of leases and checkpoints.
    pub(crate) fn leases(&self) -> String {
        self.bucket("leases")
    }

    /// The bucket of the members that live.
    pub(crate) fn members(&self) -> String {
        self.bucket("members")
    }

    /// A bucket's name may hold no more than `A-Z a-z 0-9 - _`.
    fn bucket(&self, what: &str) -> String {
        let Some(namespace) = &self.namespace else {
            return format!("interline-{what}");
        };
        let mut name = format!("interline-{what}_");
        for character in namespace.chars() {
            match character {
                '_' => name.push_str("__"),
                '=' => name.push_str("_-"),
                other => name.push(other),
            }
        }
        name
    }

    /// The key of what a group keeps for a topic; partitions and members follow it.
    pub(crate) fn key(group: &Group, topic: &Topic) -> String {
        format!("{group}.{}", token(topic.as_str()))
    }

    /// Group, topic and the rest of a key.
    pub(crate) fn parse_key(key: &str) -> Option<(Group, Topic, &str)> {
        let (group, rest) = key.split_once('.')?;
        let (topic, rest) = rest.split_once('.')?;
        let topic = Topic::system(topic.replace(DOT, ".")).ok()?;
        Some((Group::new(group).ok()?, topic, rest))
    }
}

/// A name as one token of a subject.
pub(crate) fn token(name: &str) -> String {
    name.replace('.', DOT)
}

/// What a token stands for.
pub(crate) fn untoken(token: &str) -> String {
    token.replace(DOT, ".")
}

/// The stream behind a bucket.
pub(crate) fn bucket_stream(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// The subject of a key in a bucket.
pub(crate) fn bucket_subject(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const TOPICS: [&str; 8] = [
        "a",
        "a.b",
        "a.b.c",
        "a-b",
        "a_b",
        "KV_a",
        "OBJ_a.b",
        "b.c.g.dlq",
    ];

    #[test]
    fn no_two_names_meet() {
        let namespaces = [
            None,
            Some("a"),
            Some("a.b"),
            Some("a_b"),
            Some("a-b"),
            Some("b"),
        ];
        let mut seen = HashSet::new();
        for namespace in namespaces {
            let names = Names::new(namespace).unwrap();
            assert!(seen.insert(names.leases()) && seen.insert(names.members()));
            for topic in TOPICS {
                let topic = Topic::system(topic).unwrap();
                assert!(seen.insert(names.stream(&topic)), "{namespace:?} {topic}");
                assert!(
                    seen.insert(names.subject(&topic, 0)),
                    "{namespace:?} {topic}"
                );
            }
        }
    }

    #[test]
    fn a_stream_tells_its_topic() {
        for namespace in [None, Some("shop.eu")] {
            let names = Names::new(namespace).unwrap();
            for topic in TOPICS {
                let topic = Topic::system(topic).unwrap();
                let stream = names.stream(&topic);
                assert!(!stream.contains(['.', ' ', '*', '>']), "{stream}");
                assert_eq!(names.to_topic(&stream), Some(topic));
            }
        }
        let plain = Names::default();
        for foreign in ["KV_interline-leases", "OBJ_x", "a+b", "=a", "a b"] {
            assert_eq!(plain.to_topic(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_key_tells_its_parts() {
        let (group, topic) = (Group::new("g").unwrap(), Topic::new("a.b").unwrap());
        let key = format!("{}.7", Names::key(&group, &topic));
        assert_eq!(Names::parse_key(&key), Some((group, topic, "7")));
    }

    #[test]
    fn a_namespace_is_a_name() {
        assert!(Names::new(Some("a b")).is_err());
        assert!(Names::new(Some(&"x".repeat(MAX_NAMESPACE + 1))).is_err());
    }
}
