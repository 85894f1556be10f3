//! What the server's own tools would do.

use async_nats::Client;
use serde_json::{Value, json};

use crate::support::{url, within};

/// Another client of the server.
pub(crate) async fn client() -> Client {
    within(async_nats::connect(url())).await.unwrap()
}

/// A request to JetStream; its answer, which is no refusal.
pub(crate) async fn ask(client: &Client, what: &str, body: &Value) -> Value {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let subject = format!("$JS.API.{what}");
    let answer = within(client.request(subject, body.into())).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert!(answer.get("error").is_none(), "{what}: {answer}");
    answer
}

/// Changes settings of a stream.
pub(crate) async fn update(client: &Client, stream: &str, change: &[(&str, Value)]) {
    let info = ask(client, &format!("STREAM.INFO.{stream}"), &Value::Null).await;
    let mut config = info["config"].clone();
    for (key, value) in change {
        config[*key] = value.clone();
    }
    ask(client, &format!("STREAM.UPDATE.{stream}"), &config).await;
}

/// The consumers of a stream.
pub(crate) async fn consumers(client: &Client, stream: &str) -> Vec<String> {
    let names = ask(client, &format!("CONSUMER.NAMES.{stream}"), &json!({})).await;
    let names = names["consumers"].as_array().cloned().unwrap_or_default();
    names
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// Publishes by the bare protocol, with whatever block of headers.
pub(crate) async fn publish_block(subject: &str, block: &str, payload: &str) {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    let server = url();
    let address = server.trim_start_matches("nats://");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (head, total) = (block.len(), block.len() + payload.len());
    let said = format!(
        "CONNECT {{\"headers\":true,\"verbose\":false}}\r\nSUB answer 1\r\n\
         HPUB {subject} answer {head} {total}\r\n{block}{payload}\r\n"
    );
    stream.write_all(said.as_bytes()).await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    loop {
        let line = within(lines.next_line()).await.unwrap().expect("an answer");
        if line.contains("\"seq\"") {
            return;
        }
        assert!(
            !line.starts_with("-ERR") && !line.contains("\"error\""),
            "{line}"
        );
    }
}

/// The rows of a group, as anybody may read them.
pub(crate) async fn rows(
    client: &Client,
    topic: &interline_core::Topic,
    group: &interline_core::Group,
    partitions: u32,
) -> Vec<Value> {
    let mut rows = Vec::new();
    for partition in 0..partitions {
        let key = format!("{group}.{topic}.{partition}");
        let subject = format!("$JS.API.DIRECT.GET.KV_interline-leases.$KV.interline-leases.{key}");
        let row = within(client.request(subject, "".into())).await.unwrap();
        rows.push(serde_json::from_slice(&row.payload).unwrap_or(Value::Null));
    }
    rows
}
