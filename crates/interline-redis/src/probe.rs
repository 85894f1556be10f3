//! What a server is, and what it promises.

use fred::types::Value;
use interline_core::{Durability, ErrorKind, Result};

use crate::client::Link;
use crate::config::Resolved;
use crate::error::{error, one_line};
use crate::reply::{text, texts};

/// The oldest server that is spoken to.
const OLDEST: (u32, u32) = (7, 0);

/// What a server said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// What an answer of the server survives as it comes.
    pub(crate) durability: Durability,
    /// The server can be asked to answer when its log is on the disk (7.2 and later).
    syncs: bool,
    /// The durability was asked for, not declared.
    is_verified: bool,
    /// The policy by which the server throws data away when its memory is full, if it does.
    evicts: Option<String>,
}

impl Probe {
    /// Asks the server.
    ///
    /// # Errors
    /// For a server that cannot serve: too old, a replica, a node of a cluster.
    pub(crate) async fn ask(link: &Link, resolved: &Resolved) -> Result<Self> {
        let info = link.call("connect", "INFO", Vec::new()).await?;
        let info = text(info).unwrap_or_default();
        check_server(&info, resolved)?;
        let aof = field(&info, "aof_enabled") == Some("1");
        let settings = link
            .call(
                "connect",
                "CONFIG",
                vec!["GET".into(), "appendfsync".into()],
            )
            .await;
        let probed = match settings {
            Ok(answer) => texts(answer).into_iter().nth(1).flatten(),
            Err(refused) if refused.is_transient() => return Err(refused),
            // Managed servers forbid it, and least-privileged users have no need of it.
            Err(_) => None,
        };
        let durability = match (aof, probed.as_deref()) {
            (false, _) => Durability::Memory,
            (true, Some("always")) => Durability::Disk,
            (true, _) => Durability::Process,
        };
        // A log that nobody syncs would be waited for in vain.
        let syncs = aof && probed.as_deref() != Some("no") && knows_syncs(link).await?;
        let declared = resolved.config.durability.filter(|_| probed.is_none());
        let policy = field(&info, "maxmemory_policy").unwrap_or("noeviction");
        Ok(Self {
            durability: declared.unwrap_or(durability),
            syncs,
            is_verified: declared.is_none(),
            evicts: (policy != "noeviction").then(|| one_line(policy)),
        })
    }

    /// What an acknowledged publish survives for a publisher that wants `min`. Only who wants more
    /// than the answer of the server gives waits for the disk.
    pub(crate) fn level(&self, min: Durability) -> Durability {
        match self.syncs && min > self.durability {
            true => self.durability.max(Durability::Disk),
            false => self.durability,
        }
    }

    /// Whether `level` is known, not declared. A sync that was waited for is known to be done.
    pub(crate) fn is_verified(&self, level: Durability) -> bool {
        self.is_verified || level > self.durability
    }

    /// Whether who wants at least `min` may publish to the server under these settings.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) naming the server's setting and the command that mends it.
    pub(crate) fn check(
        &self,
        resolved: &Resolved,
        min: Durability,
        operation: &'static str,
    ) -> Result<()> {
        let refused = |message: String, remedy: String| {
            let message = format!("`{}` {message}", resolved.place);
            Err(error(ErrorKind::Config, operation, message, remedy))
        };
        let has = self.level(min);
        if has < min {
            let fix = match min {
                Durability::Process => "`CONFIG SET appendonly yes`",
                _ => {
                    "`CONFIG SET appendonly yes appendfsync always`, or a server of version 7.2 \
                     or later that syncs every second"
                }
            };
            return refused(
                format!("gives durability {has} and {min} is required"),
                format!("{fix}, or accept less with `min_durability={has}`"),
            );
        }
        match &self.evicts {
            Some(policy) if !resolved.is_development() => refused(
                format!("throws events away when its memory is full (maxmemory-policy {policy})"),
                "`CONFIG SET maxmemory-policy noeviction`".to_owned(),
            ),
            _ => Ok(()),
        }
    }

    /// Says what is accepted here and would be refused in production.
    pub(crate) fn warn(&self, resolved: &Resolved) {
        let server = &resolved.place;
        if let Some(policy) = &self.evicts {
            tracing::warn!(target: "interline::redis", server, policy, "the server throws events away when its memory is full; `CONFIG SET maxmemory-policy noeviction`");
        }
        if self.durability < Durability::Process {
            tracing::warn!(target: "interline::redis", server, "the server forgets events when it stops; `CONFIG SET appendonly yes`");
        }
        if !self.is_verified(self.level(resolved.min_durability)) {
            tracing::warn!(target: "interline::redis", server, level = %self.durability, "the durability is declared, since the server forbids to ask");
        }
    }
}

/// Whether the server has the command that waits for its disk, and lets this user use it.
async fn knows_syncs(link: &Link) -> Result<bool> {
    // Nothing is waited for.
    let nothing = vec![Value::Integer(0); 3];
    match link.call("connect", "WAITAOF", nothing).await {
        Ok(_) => Ok(true),
        Err(refused) if refused.is_transient() => Err(refused),
        Err(_) => Ok(false),
    }
}

fn check_server(info: &str, resolved: &Resolved) -> Result<()> {
    let place = &resolved.place;
    let refused = |message: String, remedy: &str| {
        Err(error(ErrorKind::Unsupported, "connect", message, remedy))
    };
    let version = field(info, "redis_version").unwrap_or_default();
    let mut numbers = version.split('.').map_while(|part| part.parse().ok());
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if (major, minor) < OLDEST {
        return refused(
            format!("`{place}` is Redis {}", one_line(version)),
            "use a server of version 7.0 or later",
        );
    }
    if field(info, "redis_mode") == Some("cluster") {
        return refused(
            format!("`{place}` is a node of a Redis Cluster"),
            "use a server that is none: a group reads all its topics with one request",
        );
    }
    if field(info, "role") == Some("slave") {
        return refused(
            format!("`{place}` is a replica, which takes no events"),
            "name the primary",
        );
    }
    Ok(())
}

fn field<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    let values = info.lines().filter_map(|line| line.split_once(':'));
    values
        .filter(|(known, _)| *known == name)
        .map(|(_, value)| value.trim())
        .next()
}

#[cfg(test)]
mod tests;
