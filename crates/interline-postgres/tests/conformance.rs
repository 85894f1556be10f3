//! The conformance suite on a real server. `INTERLINE_POSTGRES_URL` names it;
//! `INTERLINE_POSTGRES_KILL` and `INTERLINE_POSTGRES_START` are shell commands that kill it at once
//! and start it again on its data. With `INTERLINE_POSTGRES_OWNER_URL` and
//! `INTERLINE_POSTGRES_APP_URL` the suite runs under the least rights.

use std::env;
use std::process::{Command, ExitCode};
use std::time::Duration;

use interline_core::{Error, ErrorKind, Result, Transport as _};
use interline_testkit::{Foreign, Harness, Suite};
use tokio::sync::OnceCell;
use tokio_postgres::NoTls;

fn main() -> ExitCode {
    Suite::new("postgres", harness).main()
}

fn harness() -> Harness {
    Harness::new(|| async {
        let prepared = MIGRATED.get_or_try_init(migrate).await;
        prepared?;
        interline_postgres::connect(url()?).await
    })
        .write_foreign(write)
        .outage(|| server("KILL"), || server("START"))
}

fn missing(name: &str) -> Error {
    Error::new(ErrorKind::Config, "test", format!("{name} is not set"))
        .remedy("run it by `cargo xtask it postgres`")
}

/// The schema is made once by its owner; the suite runs with the least rights.
static MIGRATED: OnceCell<()> = OnceCell::const_new();

async fn migrate() -> Result<()> {
    let Ok(owner) = env::var("INTERLINE_POSTGRES_OWNER_URL") else {
        return Ok(());
    };
    let owner = interline_postgres::connect(owner).await?;
    owner.close(Duration::from_secs(5)).await
}

fn url() -> Result<String> {
    let name = "INTERLINE_POSTGRES_URL";
    let url = env::var("INTERLINE_POSTGRES_APP_URL").or_else(|_| env::var(name));
    url.map_err(|_| missing(name))
}

async fn server(verb: &str) -> Result<()> {
    let name = format!("INTERLINE_POSTGRES_{verb}");
    let command = env::var(&name).map_err(|_| missing(&name))?;
    let run = move || Command::new("sh").arg("-c").arg(command).output();
    let failed = |cause: String| Error::new(ErrorKind::Unavailable, "test", cause);
    let done = tokio::task::spawn_blocking(run).await;
    let done = done.map_err(|cause| failed(cause.to_string()))?;
    match done {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(failed(String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(cause) => Err(failed(cause.to_string())),
    }
}

/// Writes with the bare driver.
async fn write(foreign: Foreign) -> Result<()> {
    let failed = |cause: tokio_postgres::Error| {
        Error::new(ErrorKind::Unavailable, "write foreign", cause.to_string())
    };
    let url = url()?;
    let plain = url.split('?').next().unwrap_or_default();
    let (client, connection) = tokio_postgres::connect(plain, NoTls).await.map_err(failed)?;
    let driver = tokio::spawn(connection);
    let names: Vec<&str> = foreign.headers.iter().map(|(name, _)| &**name).collect();
    let values: Vec<&[u8]> = foreign.headers.iter().map(|(_, value)| &**value).collect();
    let statement = "select interline.write($1, $2, interline.pack($3, $4), $5)";
    let (key, payload) = (foreign.key.as_deref(), foreign.payload.as_deref());
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] = [
        &foreign.topic.as_str(),
        &key,
        &names,
        &values,
        &payload,
    ];
    client.query(statement, &parameters).await.map_err(failed)?;
    driver.abort();
    Ok(())
}
