//! Which properties of librdkafka may be set by the user.

use interline_core::Result;
use interline_transport::settings::config;

use crate::SCHEME;

/// Properties that are not the user's to set, and why.
const REFUSED: [(&str, &str); 34] = [
    ("acks", ACKS),
    ("request.required.acks", ACKS),
    (
        "enable.idempotence",
        "resends would be stored twice and out of order",
    ),
    (
        "transactional.id",
        "a transactional publisher would hold back readers",
    ),
    ("partitioner", PARTITIONER),
    ("partitioner_cb", PARTITIONER),
    ("max.in.flight", IN_FLIGHT),
    ("max.in.flight.requests.per.connection", IN_FLIGHT),
    ("linger.ms", "it has a setting of its own: `linger`"),
    (
        "queue.buffering.max.ms",
        "it has a setting of its own: `linger`",
    ),
    ("queue.buffering.max.messages", WINDOW),
    ("queue.buffering.max.kbytes", WINDOW),
    ("message.timeout.ms", TIMEOUT),
    ("delivery.timeout.ms", TIMEOUT),
    ("enable.auto.commit", COMMIT),
    ("auto.commit.enable", COMMIT),
    ("enable.auto.offset.store", COMMIT),
    ("auto.commit.interval.ms", COMMIT),
    (
        "auto.offset.reset",
        "a lost position would be jumped over in silence",
    ),
    ("partition.assignment.strategy", PROTOCOL),
    ("group.protocol", PROTOCOL),
    ("group.id", "it is the group of each subscription"),
    (
        "group.instance.id",
        "it is the instance of each subscription",
    ),
    (
        "session.timeout.ms",
        "it has a setting of its own: `session_timeout`",
    ),
    (
        "max.poll.interval.ms",
        "it has a setting of its own: `max_poll_interval`",
    ),
    (
        "isolation.level",
        "events of aborted transactions would be handled",
    ),
    ("check.crcs", "broken batches would be handled"),
    ("enable.partition.eof", "it would be taken for an error"),
    ("bootstrap.servers", "the brokers are in the URL"),
    ("metadata.broker.list", "the brokers are in the URL"),
    ("security.protocol", "it follows from `tls` and `sasl`"),
    ("sasl.mechanism", "it has a setting of its own: `sasl`"),
    ("sasl.mechanisms", "it has a setting of its own: `sasl`"),
    ("log.queue", "the transport serves it"),
];

const ACKS: &str = "a stored event has to be on all replicas in sync";
const PARTITIONER: &str = "a key has to be in the partition where every Kafka client looks for it";
const IN_FLIGHT: &str = "it has a setting of its own: `max_in_flight`";
const WINDOW: &str = "it follows from the window of the publisher";
const TIMEOUT: &str = "it is the publish timeout of the publisher";
const COMMIT: &str = "events that were not handled would count as settled";
const PROTOCOL: &str = "partitions are handed over by the cooperative protocol";

/// Checks that the user may set the property `name`.
pub(super) fn check(name: &str) -> Result<()> {
    let found = REFUSED.iter().find(|(refused, _)| *refused == name);
    let why = match found {
        Some((_, why)) => *why,
        // Callbacks and plugins would run code that nobody here knows of.
        None if name.ends_with("_cb") || name.starts_with("plugin.") => {
            "it cannot be set from outside"
        }
        None => return Ok(()),
    };
    let shown: String = name.chars().take(60).collect();
    Err(config(
        format!("the librdkafka property {shown:?} cannot be set: {why}"),
        "remove it",
    )
    .on(SCHEME))
}
