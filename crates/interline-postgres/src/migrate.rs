//! The schema and its versions.

use interline_core::{ErrorKind, Result};
use interline_transport::settings::Profile;
use tokio_postgres::Client;

use crate::config::Resolved;
use crate::error::{error, postgres};
use crate::schema::Schema;

const MIGRATIONS: [(&str, &str); 4] = [
    ("log", include_str!("migrations/0001_log.sql")),
    ("sql", include_str!("migrations/0002_sql.sql")),
    ("groups", include_str!("migrations/0003_groups.sql")),
    ("inbox", include_str!("migrations/0004_inbox.sql")),
];

/// What the schema is before it has a version.
const BASE: &str = "create table if not exists {s}.migrations (
    version int primary key,
    name text not null,
    applied_at timestamptz not null default clock_timestamp()
)";

/// One step from a version of the schema to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migration {
    /// The version that it leads to, from 1.
    pub version: i32,
    /// What it is about.
    pub name: &'static str,
    /// The statements, to be run in one transaction.
    pub sql: String,
}

/// The migrations of a namespace's schema, for those who run their own.
///
/// In the profile `development` connecting applies what is missing; in `production` it only
/// looks. The first one makes the schema too, and each notes its version.
///
/// ```
/// let all = interline_postgres::native::migrations(Some("shop"))?;
/// assert!(all[0].sql.contains("create schema if not exists \"interline_shop\""));
/// # Ok::<(), interline_core::Error>(())
/// ```
///
/// # Errors
/// [`Config`](ErrorKind::Config) or [`Invalid`](ErrorKind::Invalid) for a namespace that names no
/// schema.
pub fn migrations(namespace: Option<&str>) -> Result<Vec<Migration>> {
    let schema = Schema::new(namespace)?;
    let mut all = steps(&schema);
    if let Some(first) = all.first_mut() {
        let base = schema.sql(BASE);
        first.sql = format!("create schema if not exists {schema};\n{base};\n{}", first.sql);
    }
    Ok(all)
}

fn steps(schema: &Schema) -> Vec<Migration> {
    let all = (1..).zip(MIGRATIONS);
    all.map(|(version, (name, sql))| Migration {
        version,
        name,
        sql: schema.sql(&format!(
            "{sql}\ninsert into {{s}}.migrations (version, name) values ({version}, '{name}');\n"
        )),
    })
    .collect()
}

/// Brings the schema to the version of this crate, or checks that it has it.
pub(crate) async fn migrate(resolved: &Resolved, client: &Client) -> Result<()> {
    let schema = &resolved.schema;
    let steps = steps(schema);
    let newest = MIGRATIONS.len() as i32;
    let found = version(schema, client).await?;
    if found > newest {
        return Err(error(
            ErrorKind::Config,
            "connect",
            format!("the schema {schema} has version {found}, this crate knows {newest}"),
            "update interline",
        ));
    }
    if found == newest {
        return Ok(());
    }
    if resolved.profile == Profile::Production {
        return Err(error(
            ErrorKind::Config,
            "connect",
            format!("the schema {schema} has version {found}, {newest} is needed"),
            "apply `interline_postgres::native::migrations`, or connect once with \
             `profile=development` as the schema's owner",
        ));
    }
    apply(schema, client, &steps).await
}

/// The version of the schema; 0 if there is none.
async fn version(schema: &Schema, client: &Client) -> Result<i32> {
    let failed = |error| postgres("connect", error);
    let table = format!("{schema}.migrations");
    let there = client
        .query_one("select to_regclass($1) is not null", &[&table])
        .await
        .map_err(failed)?;
    if !there.get::<_, bool>(0) {
        return Ok(0);
    }
    let newest = schema.sql("select coalesce(max(version), 0) from {s}.migrations");
    let row = client.query_one(&newest, &[]).await.map_err(failed)?;
    Ok(row.get(0))
}

async fn apply(schema: &Schema, client: &Client, steps: &[Migration]) -> Result<()> {
    let failed = |error| postgres("migrate", error);
    // Several processes may start at once: one migrates, the others find it done.
    let lock = "select pg_advisory_lock(hashtext($1))";
    let unlock = "select pg_advisory_unlock(hashtext($1))";
    client.query_one(lock, &[&schema.name()]).await.map_err(failed)?;
    // What is made belongs to who owns the schema, also if a superuser comes by.
    let role = "select case when pg_has_role(r.oid, 'member')
            then format('set role %I', r.rolname) else 'reset role' end
        from pg_namespace n join pg_roles r on r.oid = n.nspowner where n.nspname = $1";
    let role = client.query_opt(role, &[&schema.name()]).await;
    // Asked first, since `if not exists` wants the right to create it all the same.
    let first = match role.map_err(failed)? {
        Some(row) => row.get(0),
        None => format!("create schema {schema}"),
    };
    let base = format!("{first}; {}", schema.sql(BASE));
    client.batch_execute(&base).await.map_err(failed)?;
    let found = version(schema, client).await?;
    for step in steps.iter().filter(|step| step.version > found) {
        let sql = format!("begin;\n{}\ncommit;", step.sql);
        if let Err(cause) = client.batch_execute(&sql).await {
            // Whatever it answers, the first error is the one to tell.
            let _ = client.batch_execute("rollback").await;
            return Err(failed(cause));
        }
    }
    client.query_one(unlock, &[&schema.name()]).await.map_err(failed)?;
    client.batch_execute("reset role").await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_is_of_its_schema_alone() {
        let all = migrations(Some("x")).unwrap();
        assert_eq!(all.len(), MIGRATIONS.len());
        for (step, version) in all.iter().zip(1..) {
            assert_eq!(step.version, version);
            assert!(!step.sql.contains("{s}"), "{}", step.name);
            assert!(!step.sql.contains("\"interline\""), "{}", step.name);
        }
    }
}
