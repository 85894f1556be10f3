//! Making topics and comparing them with what they should be.

use std::sync::Arc;
use std::time::{Duration, Instant};

use interline_core::{Cleanup, Ensured, ErrorKind, Result, Topic, TopicSpec};
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use crate::cluster::Cluster;
use crate::config::millis;
use crate::error::{coded, kafka};

/// Partitions of a topic that nobody gave a number.
pub(crate) const PARTITIONS: u32 = 12;

/// How often a topic that was just made is looked for until every broker knows it.
const LOOK: Duration = Duration::from_millis(20);

/// Makes a topic; one that is there already is fine and stays as it is.
pub(crate) async fn create(
    cluster: &Arc<Cluster>,
    operation: &'static str,
    spec: &TopicSpec,
) -> Result<Ensured> {
    let name = cluster.resolved.names.topic(&spec.topic);
    let settings = settings(spec);
    // -1 leaves it to the cluster.
    let replicas = match spec.replication {
        Some(replicas) => i32::from(replicas),
        None if cluster.is_development() => 1,
        None => -1,
    };
    let partitions = i32::try_from(spec.partitions.unwrap_or(PARTITIONS)).unwrap_or(i32::MAX);
    let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(replicas));
    for (key, value) in &settings {
        topic = topic.set(key, value);
    }
    let admin = cluster.admin(operation)?;
    let answers = admin.create_topics([&topic], &cluster.options()).await;
    let answer = answers.map_err(|error| kafka(operation, &error))?.pop();
    let ensured = match answer {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ensured::Exists,
        Some(Err((_, code))) => return Err(coded(operation, code)),
        Some(Ok(_)) | None => Ensured::Created,
    };
    wait_for(cluster, operation, &spec.topic).await?;
    Ok(ensured)
}

/// Waits until the brokers know a topic that was just made.
async fn wait_for(cluster: &Arc<Cluster>, operation: &'static str, topic: &Topic) -> Result<()> {
    let deadline = Instant::now() + cluster.resolved.config.request_timeout;
    loop {
        match cluster.ask(operation, topic).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(error) if error.is_transient() || error.kind() == ErrorKind::NotFound => {
                tokio::time::sleep(LOOK).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The settings of a topic that a template asks for, as the cluster names them.
fn settings(spec: &TopicSpec) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    if let Some(retention) = spec.retention {
        settings.push(("retention.ms", millis(retention)));
    }
    if let Some(cleanup) = spec.cleanup {
        let policy = match cleanup {
            Cleanup::Delete => "delete",
            Cleanup::Compact => "compact",
        };
        settings.push(("cleanup.policy", policy.to_owned()));
    }
    settings
}

/// How a topic that is there differs from its template.
pub(crate) async fn compare(cluster: &Arc<Cluster>, spec: &TopicSpec) -> Result<Ensured> {
    let facts = cluster.ask("ensure", &spec.topic).await?;
    let mut drift = Vec::new();
    if let Some(partitions) = spec.partitions.filter(|wanted| *wanted != facts.partitions) {
        drift.push(format!(
            "partitions: {} instead of {partitions}",
            facts.partitions
        ));
    }
    let replicas = spec.replication.map(usize::from);
    if let Some(replicas) = replicas.filter(|wanted| *wanted != facts.replicas) {
        drift.push(format!(
            "replicas: {} instead of {replicas}",
            facts.replicas
        ));
    }
    let wanted = settings(spec);
    if !wanted.is_empty() {
        let name = cluster.resolved.names.topic(&spec.topic);
        let found = cluster.topic_config("ensure", &name).await?;
        for (key, wanted) in wanted {
            let entry = found.get(key).and_then(|entry| entry.value.as_deref());
            let is = entry.unwrap_or("unknown");
            if is != wanted {
                drift.push(format!("{key}: {is} instead of {wanted}"));
            }
        }
    }
    Ok(if drift.is_empty() {
        Ensured::Exists
    } else {
        Ensured::Drift(drift)
    })
}
