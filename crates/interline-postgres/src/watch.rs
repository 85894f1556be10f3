//! The task that watches the server: horizon, topics, state, and waking other processes.

use std::sync::{Arc, Weak};
use std::time::Duration;

use interline_core::{Result, planted};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_postgres::Statement;

use crate::error::postgres;
use crate::horizon::{Look, Pace, Seen, Undecided};
use crate::link::Link;
use crate::session::{Purpose, Session, within};

/// Between looks that may take a transaction id, at rest and under load: an id a time is what a
/// look costs the server.
const SPACING: Duration = Duration::from_millis(5);
const BUSY_SPACING: Duration = Duration::from_millis(10);

/// Between tries to reach the server, first and at most.
const BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// After which time an undecided pair is worth a word, and how often.
const STUCK: Duration = Duration::from_secs(5);
const STUCK_AGAIN: Duration = Duration::from_secs(30);

/// The id comes first and the transaction id after it, whatever the planner does: `offset 0`.
const LOOK: &str = "select l.last,
    case when l.last > $1 then pg_current_xact_id()::text::bigint end,
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint
    from (select {s}.last_id() as last offset 0) l";

const BLOCKER: &str = "select coalesce(pid, 0), coalesce(datname::text, ''),
    coalesce(extract(epoch from clock_timestamp() - xact_start)::int8, 0)
    from pg_stat_activity where backend_xid is not null
    order by age(backend_xid) desc limit 1";

/// Starts the task. It ends with the link.
pub(crate) fn start(link: &Arc<Link>) {
    let bell = Arc::clone(&link.horizon.bell);
    tokio::spawn(run(Arc::downgrade(link), bell));
}

async fn run(link: Weak<Link>, bell: Arc<Notify>) {
    let mut watch = Watch::default();
    loop {
        let pause = {
            let Some(link) = link.upgrade() else { return };
            if link.is_closed() {
                return;
            }
            watch.step(&link).await
        };
        sleep_until(pause.at_least).await;
        // Late or not, it is time to look.
        let _ = timeout_at(pause.at_most, bell.notified()).await;
    }
}

/// When to go on: not before, and at the latest.
struct Pause {
    at_least: Instant,
    at_most: Instant,
}

#[derive(Default)]
struct Watch {
    connected: Option<Connected>,
    failures: u32,
}

/// What is known on one connection; nothing of it is kept on the next.
struct Connected {
    session: Session,
    look: Statement,
    notify: Statement,
    epoch: u64,
    undecided: Undecided,
    pace: Pace,
    /// When a look last took a transaction id.
    taken: Option<Instant>,
    topics: Option<Instant>,
    /// Since when the horizon stands although there is more, and when that was last said.
    stuck: Option<Instant>,
    said: Option<Instant>,
}

impl Watch {
    async fn step(&mut self, link: &Link) -> Pause {
        match self.try_step(link).await {
            Ok(pause) => {
                self.failures = 0;
                link.monitor.up();
                pause
            }
            Err(error) => {
                if self.failures == 0 {
                    tracing::warn!(target: "interline::postgres", %error, "the server does not answer");
                }
                link.monitor.down(&error);
                self.connected = None;
                let backoff = BACKOFF * 2_u32.pow(self.failures.min(5));
                self.failures += 1;
                let at = Instant::now() + backoff.min(MAX_BACKOFF);
                Pause {
                    at_least: at,
                    at_most: at,
                }
            }
        }
    }

    async fn try_step(&mut self, link: &Link) -> Result<Pause> {
        let connected = match &mut self.connected {
            Some(connected) => connected,
            none => none.insert(Connected::new(link).await?),
        };
        let timeout = link.timeout();
        within("watch", timeout, connected.step(link)).await?
    }
}

impl Connected {
    async fn new(link: &Link) -> Result<Self> {
        let bell = Arc::clone(&link.horizon.bell);
        let session = link
            .resolved
            .session("watch", Purpose::Watch, Some(bell))
            .await?;
        let schema = &link.resolved.schema;
        let client = &session.client;
        let opening = async {
            let failed = |error| postgres("watch", error);
            link.places.learn(schema, client).await?;
            // Nothing of importance is written here: a notification need not wait for the disk.
            let listen = format!("set synchronous_commit = off; listen {schema}");
            client.batch_execute(&listen).await.map_err(failed)?;
            let look = client.prepare(&schema.sql(LOOK)).await.map_err(failed)?;
            let notify = client.prepare("select pg_notify($1, '')").await;
            Ok::<_, interline_core::Error>((look, notify.map_err(failed)?))
        };
        let (look, notify) = within("watch", link.timeout(), opening).await??;
        Ok(Self {
            session,
            look,
            notify,
            epoch: link.horizon.restart(),
            undecided: Undecided::default(),
            pace: Pace::default(),
            taken: None,
            topics: None,
            stuck: None,
            said: None,
        })
    }

    async fn step(&mut self, link: &Link) -> Result<Pause> {
        let refresh = link.resolved.config.topic_refresh;
        if self.topics.is_none_or(|at| at.elapsed() >= refresh) {
            let client = &self.session.client;
            link.topics.refresh("watch", &link.resolved, client).await?;
            self.topics = Some(Instant::now());
        }
        if link.horizon.take_published() {
            let schema = link.resolved.schema.name();
            let (client, notify) = (&self.session.client, &self.notify);
            let sent = client.execute(notify, &[&schema]).await;
            sent.map_err(|error| postgres("watch", error))?;
        }
        if link.horizon.is_watched() {
            return self.look(link).await;
        }
        let now = Instant::now();
        Ok(Pause {
            at_least: now + SPACING,
            at_most: now + refresh,
        })
    }

    /// Looks at the server, and shows the horizon.
    async fn look(&mut self, link: &Link) -> Result<Pause> {
        let epoch = link.horizon.epoch();
        if self.epoch != epoch {
            self.epoch = epoch;
            self.undecided = Undecided::default();
            self.taken = None;
        }
        let now = Instant::now();
        let spacing = self.spacing(now);
        let may_take = self.taken.is_none_or(|at| now >= at + spacing);
        let above = match may_take {
            true => self.undecided.newest(),
            false => i64::MAX,
        };
        let row = self.session.client.query_one(&self.look, &[&above]).await;
        let row = row.map_err(|error| postgres("watch", error))?;
        let look = Look {
            last: row.get(0),
            taken: row.get(1),
            oldest: row.get(2),
        };
        if look.taken.is_some() {
            self.taken = Some(now);
        }
        let before = self.undecided.decided();
        let decided = self.undecided.observe(look);
        let horizon = match planted::is("cursor-without-horizon") {
            true => Some(look.last),
            false => decided,
        };
        link.horizon.show(Seen { epoch, horizon });
        self.watch_stuck(before != horizon).await;
        Ok(self.pause(before != horizon, look, link.resolved.config.poll))
    }

    /// Taken lately, it is taken seldom.
    fn spacing(&self, now: Instant) -> Duration {
        match self.taken {
            Some(at) if now - at < 4 * BUSY_SPACING => BUSY_SPACING,
            _ => SPACING,
        }
    }

    fn pause(&mut self, advanced: bool, look: Look, poll: Duration) -> Pause {
        let now = Instant::now();
        if !self.undecided.is_empty() {
            let at = now + self.pace.retry(advanced, poll);
            return Pause {
                at_least: at,
                at_most: at,
            };
        }
        self.pace.rest();
        let next = self.taken.map_or(now, |at| at + self.spacing(now));
        // More was given than could be noted: look again as soon as that is allowed.
        let more = look.last > self.undecided.newest();
        Pause {
            at_least: next.max(now),
            at_most: if more { next } else { now + poll },
        }
    }

    /// Names who holds the horizon back.
    async fn watch_stuck(&mut self, advanced: bool) {
        if advanced || self.undecided.is_empty() {
            self.stuck = None;
            return;
        }
        let since = *self.stuck.get_or_insert_with(Instant::now);
        let said = self.said.is_some_and(|at| at.elapsed() < STUCK_AGAIN);
        if since.elapsed() < STUCK || said {
            return;
        }
        self.said = Some(Instant::now());
        // Without the right to see other users' sessions it names nobody.
        let Ok(found) = self.session.client.query_opt(BLOCKER, &[]).await else {
            return;
        };
        let (pid, database, seconds): (i32, String, i64) = found
            .map_or((0, String::new(), 0), |row| {
                (row.get(0), row.get(1), row.get(2))
            });
        tracing::warn!(
            target: "interline::postgres",
            pid, database, seconds,
            "readers wait for a writing transaction to end; pid 0 is a prepared one or another user's"
        );
    }
}
