//! What a server is, and what it promises.

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
    pub(crate) durability: Durability,
    /// The level was asked for, not declared.
    pub(crate) is_verified: bool,
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
        let durability = match (aof, &probed) {
            (false, _) => Durability::Memory,
            (true, Some(fsync)) if fsync == "always" => Durability::Disk,
            (true, _) => Durability::Process,
        };
        let declared = resolved.config.durability.filter(|_| probed.is_none());
        let policy = field(&info, "maxmemory_policy").unwrap_or("noeviction");
        Ok(Self {
            durability: declared.unwrap_or(durability),
            is_verified: declared.is_none(),
            evicts: (policy != "noeviction").then(|| one_line(policy)),
        })
    }

    /// Whether the server may be published to under these settings.
    ///
    /// # Errors
    /// [`Config`](ErrorKind::Config) naming the server's setting and the command that mends it.
    pub(crate) fn check(&self, resolved: &Resolved, operation: &'static str) -> Result<()> {
        let min = resolved.min_durability;
        if self.durability < min {
            let has = self.durability;
            let fix = match min {
                Durability::Process => "CONFIG SET appendonly yes",
                _ => "CONFIG SET appendonly yes appendfsync always",
            };
            return Err(error(
                ErrorKind::Config,
                operation,
                format!(
                    "`{}` gives durability {has} and {min} is required",
                    resolved.place
                ),
                format!("`{fix}`, or accept less with `min_durability={has}`"),
            ));
        }
        match &self.evicts {
            Some(policy) if !resolved.is_development() => Err(error(
                ErrorKind::Config,
                operation,
                format!(
                    "`{}` throws events away when its memory is full (maxmemory-policy {policy})",
                    resolved.place
                ),
                "`CONFIG SET maxmemory-policy noeviction`",
            )),
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
        if !self.is_verified {
            tracing::warn!(target: "interline::redis", server, level = %self.durability, "the durability is declared, since the server forbids to ask");
        }
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
