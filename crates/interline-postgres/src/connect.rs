//! Connecting, and telling why it did not work.

use std::sync::Arc;
use std::time::Duration;

use interline_core::{Capabilities, Dedupe, Durability, Error, ErrorKind, LagAccuracy, Result};
use tokio_postgres::Client;

use crate::config::{Config, Resolved};
use crate::error::{error, postgres};
use crate::link::Link;
use crate::migrate::migrate;
use crate::places::Places;
use crate::session::{Purpose, within};
use crate::{SCHEME, Transport, upkeep, watch};

/// The oldest server that knows transaction ids of 64 bits.
const OLDEST: i32 = 130_000;

/// For how long copies are recognised at least: a generation is kept this long after the next one
/// has begun.
pub(crate) const COPIES: Duration = Duration::from_secs(24 * 3_600);

/// Connects to a database. It returns once the server has answered, with the credentials given,
/// and the schema is what this version needs.
///
/// # Errors
/// [`Config`](ErrorKind::Config) for a bad setting, a schema of another version in the profile
/// `production`, a server less durable than required, or a database that was restored without
/// its sequence; [`Denied`](ErrorKind::Denied) for refused credentials, certificates or missing
/// permissions; [`Unsupported`](ErrorKind::Unsupported) for a server before version 13;
/// [`Unavailable`](ErrorKind::Unavailable) if none answers within
/// [`request_timeout`](Config::request_timeout).
///
/// # Cancellation
/// A dropped call leaves nothing behind but migrations that are whole.
pub async fn connect<C>(config: C) -> Result<Transport>
where
    C: TryInto<Config>,
    Error: From<C::Error>,
{
    let resolved = config.try_into()?.resolve()?;
    if resolved.tls.is_none() && resolved.config.shared.tls.insecure {
        tracing::warn!(
            target: "interline::postgres",
            place = resolved.place,
            "the connection is not encrypted (`insecure=1`)"
        );
    }
    let session = resolved.session("connect", Purpose::Watch, None).await?;
    let client = &session.client;
    let facts = within("connect", resolved.config.request_timeout, look(client)).await??;
    let capabilities = capabilities(&resolved, &facts)?;
    // A migration of large tables may take its time.
    migrate(&resolved, client).await?;
    let places = Places::default();
    places.learn(&resolved.schema, client).await?;
    let pool = resolved.pool()?;
    let link = Link::new(resolved, pool, capabilities, places);
    link.topics
        .refresh("connect", &link.resolved, client)
        .await?;
    watch::start(&link);
    upkeep::start(&link);
    Ok(Transport::new(Arc::clone(&link)))
}

/// What the server says of itself.
struct Facts {
    version: i32,
    is_synced: bool,
    standbys: bool,
}

async fn look(client: &Client) -> Result<Facts> {
    let sql = "select current_setting('server_version_num')::int4,
        current_setting('fsync')::bool and current_setting('full_page_writes')::bool,
        current_setting('synchronous_standby_names') <> ''";
    let row = client.query_one(sql, &[]).await;
    let row = row.map_err(|error| postgres("connect", error))?;
    Ok(Facts {
        version: row.get(0),
        is_synced: row.get(1),
        standbys: row.get(2),
    })
}

fn capabilities(resolved: &Resolved, facts: &Facts) -> Result<Capabilities> {
    if facts.version < OLDEST {
        return Err(error(
            ErrorKind::Unsupported,
            "connect",
            format!("the server has version {}", facts.version / 10_000),
            "use PostgreSQL 13 or later",
        ));
    }
    let mut capabilities = declared();
    capabilities.durability = match (facts.is_synced, facts.standbys) {
        (false, _) => Durability::Process,
        (true, false) => Durability::Disk,
        (true, true) => Durability::QuorumDisk,
    };
    let (has, wants) = (capabilities.durability, resolved.min_durability);
    if has < wants {
        let fix = match facts.is_synced {
            false => "turn fsync and full_page_writes on",
            true => "add a synchronous standby",
        };
        return Err(error(
            ErrorKind::Config,
            "connect",
            format!(
                "`{}` gives durability {has} and {wants} is required",
                resolved.place
            ),
            format!("{fix}, or accept less with `min_durability={has}`"),
        ));
    }
    Ok(capabilities)
}

/// What this transport declares on a server with its default settings.
#[must_use]
pub fn declared() -> Capabilities {
    let mut capabilities = Capabilities::new(SCHEME);
    capabilities.durability = Durability::Disk;
    capabilities.durability_verified = true;
    capabilities.dedupe = Dedupe::Window(COPIES);
    capabilities.max_ranges = 1_024;
    capabilities.max_attempts = 1_024;
    capabilities.persistent = true;
    capabilities.start_at_time = true;
    capabilities.manage_topics = true;
    capabilities.foreign_writers = true;
    capabilities.lag = LagAccuracy::Exact;
    capabilities
}
