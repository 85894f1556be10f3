//! What a client in another language makes of our events, and we of its: Apache Kafka's own, in Java, from the jars in
//! the folder that `INTERLINE_KAFKA_JARS` names, on the broker that `INTERLINE_KAFKA_URL` names.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../broker/support.rs"]
#[allow(dead_code, reason = "it is shared with another target")]
mod support;

use std::collections::BTreeMap;
use std::process::Command;

use bytes::Bytes;
use interline_core::{
    AnyTransport, Budget, Envelope, EventId, Kind, Pattern, ReadSpec, Reader, Start, Topic,
    Transport, Until,
};

use support::{connect, make, publish, publisher, topic, url, within};

const PARTITIONS: u32 = 7;

/// A record as the foreign client saw it.
#[derive(Debug)]
struct Seen {
    partition: u32,
    /// Where its own partitioner put the copy.
    copy: u32,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Seen {
    fn parse(line: &str) -> ((u32, u64), Self) {
        let mut fields = line.split('\t');
        let mut field = || fields.next().unwrap();
        let (partition, offset) = (field().parse().unwrap(), field().parse().unwrap());
        let seen = Self {
            partition,
            copy: field().parse().unwrap(),
            key: bytes_of(field()),
            value: bytes_of(field()),
            headers: Vec::new(),
        };
        let headers = fields.map(|header| {
            let (name, value) = header.split_once('=').unwrap();
            let name = String::from_utf8(bytes_of(name).unwrap()).unwrap();
            (name, bytes_of(value).unwrap())
        });
        let headers = headers.collect();
        ((partition, offset), Self { headers, ..seen })
    }

    fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(str::from_utf8(value).unwrap())
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (hex != "null").then(|| (0..hex.len()).step_by(2).map(digits).collect())
}

/// Has the foreign client copy `from` to `to`; what it saw, by partition and offset.
fn mirror(from: &Topic, to: &Topic) -> BTreeMap<(u32, u64), Seen> {
    let jars = std::env::var("INTERLINE_KAFKA_JARS")
        .expect("INTERLINE_KAFKA_JARS names the folder of Apache Kafka's jars");
    let url = url();
    let brokers = url.trim_start_matches("kafka://").split(['?', '/']).next();
    let done = Command::new("java")
        .args(["-cp", &format!("{jars}/*")])
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/foreign/Mirror.java"
        ))
        .args([brokers.unwrap(), from.as_str(), to.as_str()])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{errors}");
    let lines = String::from_utf8(done.stdout).unwrap();
    lines.lines().map(Seen::parse).collect()
}

/// Events under keys of every kind, and one without; two with every attribute.
fn events() -> Vec<Envelope> {
    let kind = Kind::new("/shop", "shop.order.placed").unwrap();
    let typed = kind
        .clone()
        .content_type("application/json")
        .schema("urn:order:1");
    let texts = (0..200).map(|n| format!("customer-{n}").into_bytes());
    let odd = ["", "\0", "ключ", "a\tb\n"].map(|key| key.as_bytes().to_vec());
    let odd = odd.into_iter().chain([vec![0xff, 0x80, 0]]);
    let mut events: Vec<Envelope> = texts
        .chain(odd)
        .map(|key| {
            Envelope::builder(kind.clone())
                .key(key)
                .payload(&b"\0\xff"[..])
                .build()
                .unwrap()
        })
        .collect();
    let full = Envelope::builder(typed)
        .id(EventId::parse("order 1/ü").unwrap())
        .time("2018-04-05T17:31:00.5Z".parse().unwrap())
        .subject("über/1")
        .tenant("acme")
        .header("x-twice", Bytes::from_static(b"\xff\0"))
        .header("x-twice", "")
        .key("ada")
        .payload("{}");
    events.push(full.build().unwrap());
    events.push(Envelope::builder(kind).build().unwrap());
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn a_java_client_reads_our_headers_and_finds_our_partitions() {
    let transport = connect().await;
    let (from, to) = (topic("foreign"), topic("foreign-copy"));
    make(&transport, &from, PARTITIONS).await;
    make(&transport, &to, PARTITIONS).await;
    let sent = events();
    let places = publish(&publisher(&transport).await, &from, sent.clone()).await;

    let seen = mirror(&from, &to);

    assert_eq!(seen.len(), sent.len());
    for (envelope, place) in sent.iter().zip(&places) {
        let seen = &seen[place];
        assert_eq!(seen.key.as_deref(), envelope.key().map(|key| &key[..]));
        assert_eq!(
            seen.value.as_deref(),
            envelope.payload().map(|bytes| &bytes[..])
        );
        if seen.key.is_some() {
            assert_eq!(seen.copy, seen.partition, "{seen:?}");
        }
        let attributes = ["ce_specversion", "ce_id", "ce_source", "ce_type"]
            .map(|name| seen.header(name).unwrap());
        let id = envelope.id().to_text();
        assert_eq!(attributes, ["1.0", &id, "/shop", "shop.order.placed"]);
    }
    let full = &seen[&places[places.len() - 2]];
    let others = [
        "ce_time",
        "ce_subject",
        "ce_tenantid",
        "ce_dataschema",
        "content-type",
    ];
    assert_eq!(
        others.map(|name| full.header(name).unwrap()),
        [
            "2018-04-05T17:31:00.5Z",
            "über/1",
            "acme",
            "urn:order:1",
            "application/json"
        ]
    );
    let twice = full.headers.iter().filter(|(name, _)| name == "x-twice");
    assert_eq!(
        twice.map(|(_, value)| &value[..]).collect::<Vec<_>>(),
        [&b"\xff\0"[..], b""]
    );

    // And back: what the Java client wrote is, for us, the same events.
    let mut copies = read(&transport, &to).await;
    let mut sent = sent;
    copies.sort_by_key(|copy| copy.id().to_text());
    sent.sort_by_key(|envelope| envelope.id().to_text());
    assert_eq!(copies, sent);
    assert!(copies.iter().all(|copy| !copy.is_foreign()));
}

/// Everything in a topic.
async fn read(transport: &AnyTransport, topic: &Topic) -> Vec<Envelope> {
    let spec = ReadSpec {
        topics: vec![Pattern::exact(topic.as_str())],
        start: Start::Earliest,
        until: Until::End,
    };
    let mut reader = within(transport.read(spec)).await.unwrap();
    let mut events = Vec::new();
    while let Some(batch) = within(reader.next(Budget::default())).await.unwrap() {
        events.extend(batch.records.into_iter().map(|record| record.envelope));
    }
    events
}
