//! One Kafka broker: started, found ready, broken on purpose, stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::state::State;
use super::{compose, native, ports, probe, random};
use crate::{Result, exec, root, tools};

/// Also in deploy/kafka/pom.xml and compose.yaml; a test compares them.
pub(super) const VERSION: &str = "4.1.1";

const READY_WITHIN: Duration = Duration::from_secs(90);

/// How the URLs of the secured listeners name their settings.
const SCRAM_QUERY: &str = "sasl=scram-sha-512&tls_ca={tls}/ca.pem";
const MTLS_QUERY: &str = "tls_ca={tls}/ca.pem&tls_cert={tls}/client.crt&tls_key={tls}/client.key";

/// A broker that this machine runs for us.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kafka {
    how: How,
    /// Certificates, settings, log and, for a native one, data. Deleted at the stop.
    dir: PathBuf,
    password: String,
    port: u16,
    tls_port: u16,
    mtls_port: u16,
    controller_port: u16,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum How {
    /// 0 until it is started.
    Native {
        pid: u32,
    },
    Compose {
        project: String,
    },
}

/// The broker that the environment names, if it does: what child processes need, or why it cannot be reached.
pub(super) fn given() -> Result<Option<Vec<(String, String)>>> {
    let Ok(url) = std::env::var("INTERLINE_KAFKA_URL") else {
        return Ok(None);
    };
    let address = first_address(&url).ok_or("INTERLINE_KAFKA_URL is not kafka://HOST:PORT")?;
    // The answer to a plaintext request is only to be had from a plaintext listener.
    let plain = !url.contains(['@', '?']);
    let reached = if plain {
        probe::brokers(address).map(drop)
    } else {
        probe::connect(address).map(drop)
    };
    reached.map_err(|e| {
        format!("no Kafka broker at {address}, which INTERLINE_KAFKA_URL names: {e}")
    })?;
    println!("kafka  {address}, as INTERLINE_KAFKA_URL says");
    Ok(Some(Vec::new()))
}

/// HOST:PORT of `kafka://[user:password@]HOST:PORT[,..][?..]`.
fn first_address(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("kafka://")?;
    let authority = rest.split(['/', '?']).next()?;
    let hosts = authority.rsplit('@').next()?;
    hosts.split(',').next().filter(|h| h.contains(':'))
}

impl Kafka {
    /// Starts one and waits until it is ready. What has been started is recorded in `file` at once.
    pub(super) fn start_new(file: &Path, install: bool) -> Result<Self> {
        tools::require(tools::PREPARE, "a Kafka broker", install)?;
        let in_container = tools::docker();
        if !in_container {
            tools::require(
                tools::NATIVE_KAFKA,
                "a Kafka broker without a Docker engine",
                install,
            )?;
        }
        let mut attempts = 3;
        loop {
            attempts -= 1;
            let mut kafka = Self::plan(in_container)?;
            let started = kafka.launch(file).and_then(|()| kafka.wait_until_ready());
            match started {
                Ok(()) => return Ok(kafka),
                // Another process may take a free port before the broker does.
                Err(e) if attempts > 0 && e.to_string().contains("Address already in use") => {
                    kafka.stop()
                }
                Err(e) => {
                    kafka.stop();
                    return Err(e);
                }
            }
        }
    }

    fn plan(in_container: bool) -> Result<Self> {
        let [port, tls_port, mtls_port, controller_port] = ports::free()?;
        let name = format!("interline-kafka-{:012x}", random() & 0xffff_ffff_ffff);
        let dir = std::env::temp_dir().join(&name);
        let how = if in_container {
            How::Compose { project: name }
        } else {
            How::Native { pid: 0 }
        };
        Ok(Self {
            how,
            dir,
            password: format!("{:016x}", random()),
            port,
            tls_port,
            mtls_port,
            controller_port,
        })
    }

    fn launch(&mut self, file: &Path) -> Result<()> {
        // Recorded before there is anything, so that an interrupt finds its directory and its container.
        State::record(file, self)?;
        self.prepare()?;
        match &self.how {
            How::Compose { project } => compose::up(project, &self.dir, &self.settings()),
            How::Native { .. } => {
                native::format(&native::jars()?, &self.dir, &self.password)?;
                self.spawn(file)
            }
        }
    }

    /// Certificates and settings, by the script that users run as well.
    fn prepare(&self) -> Result<()> {
        let mut prepare = Command::new(root().join("deploy/kafka/prepare.sh"));
        prepare.arg(&self.dir).envs(self.settings());
        if matches!(self.how, How::Native { .. }) {
            prepare.env("INTERLINE_KAFKA_BIND", "127.0.0.1");
            prepare.env("INTERLINE_KAFKA_TLS_PATH", self.dir.join("tls"));
            prepare.env("INTERLINE_KAFKA_DATA_PATH", self.dir.join("data"));
        }
        exec::output(&mut prepare).map(drop)
    }

    fn settings(&self) -> [(&'static str, String); 5] {
        [
            ("INTERLINE_KAFKA_PORT", self.port.to_string()),
            ("INTERLINE_KAFKA_TLS_PORT", self.tls_port.to_string()),
            ("INTERLINE_KAFKA_MTLS_PORT", self.mtls_port.to_string()),
            (
                "INTERLINE_KAFKA_CONTROLLER_PORT",
                self.controller_port.to_string(),
            ),
            ("INTERLINE_KAFKA_PASSWORD", self.password.clone()),
        ]
    }

    /// Starts the native process and records it. An interrupt waits until both have happened.
    fn spawn(&mut self, file: &Path) -> Result<()> {
        let jars = native::jars()?;
        let _no_interrupt = super::owned();
        self.how = How::Native {
            pid: native::spawn(&jars, &self.dir)?,
        };
        State::record(file, self).inspect_err(|_| self.stop())
    }

    fn wait_until_ready(&self) -> Result<()> {
        let address = format!("127.0.0.1:{}", self.port);
        let end = Instant::now() + READY_WITHIN;
        loop {
            match probe::brokers(&address) {
                Ok(1..) => return Ok(()),
                _ if Instant::now() < end && self.alive() => {
                    std::thread::sleep(Duration::from_millis(50))
                }
                answer => {
                    let what =
                        format!("Kafka on {address} is not ready ({answer:?}); its log ends with:");
                    return Err(format!("{what}\n{}", exec::tail(&self.log(), 40)).into());
                }
            }
        }
    }

    fn log(&self) -> String {
        match &self.how {
            How::Native { .. } => fs::read_to_string(native::log(&self.dir)).unwrap_or_default(),
            How::Compose { project } => compose::log(project),
        }
    }

    pub(super) fn alive(&self) -> bool {
        match &self.how {
            How::Native { pid } => native::is_running(*pid, &self.dir.to_string_lossy()),
            How::Compose { project } => compose::is_running(project),
        }
    }

    /// SIGKILL: the broker has no time to write anything.
    pub(super) fn kill(&self) -> Result<()> {
        match &self.how {
            How::Native { pid } => native::kill(*pid, &self.dir),
            How::Compose { project } => compose::kill(project),
        }
    }

    /// Starts a killed one again, on the same ports and data, and waits until it is ready.
    pub(super) fn start(mut self, file: &Path) -> Result<()> {
        if !self.alive() {
            match &self.how {
                How::Native { .. } => self.spawn(file)?,
                How::Compose { project } => compose::start(project)?,
            }
        }
        self.wait_until_ready()
    }

    /// Stops it and deletes everything that it had.
    pub(super) fn stop(&self) {
        let stopped = match &self.how {
            How::Native { pid } => native::kill(*pid, &self.dir),
            How::Compose { project } => compose::down(project),
        };
        if let Err(e) = stopped {
            eprintln!("kafka  {e}");
        }
        let _ = fs::remove_dir_all(&self.dir);
    }

    /// One line for people.
    pub(super) fn describe(&self) -> String {
        let how = match &self.how {
            How::Native { pid } => format!("process {pid}"),
            How::Compose { project } => format!("compose project {project}"),
        };
        let running = if self.alive() { "running" } else { "killed" };
        let Self {
            port,
            tls_port,
            mtls_port,
            ..
        } = self;
        format!(
            "{VERSION} {running}, {how}, ports {port} plaintext, {tls_port} TLS with SCRAM, {mtls_port} mTLS"
        )
    }

    /// What child processes need to find it, and to break it by `sh -c`.
    pub(super) fn env(&self, file: &Path) -> Result<Vec<(String, String)>> {
        let tls = self.dir.join("tls");
        let query = |q: &str| q.replace("{tls}", &tls.to_string_lossy());
        let control = |verb: &str| -> Result<String> {
            let xtask = std::env::current_exe()?;
            Ok(format!(
                "\"{}\" services {verb} kafka --state \"{}\"",
                xtask.display(),
                file.display()
            ))
        };
        let Self {
            port,
            tls_port,
            mtls_port,
            password,
            ..
        } = self;
        Ok([
            ("INTERLINE_KAFKA_URL", format!("kafka://127.0.0.1:{port}")),
            (
                "INTERLINE_KAFKA_TLS_URL",
                format!(
                    "kafka://interline:{password}@localhost:{tls_port}?{}",
                    query(SCRAM_QUERY)
                ),
            ),
            (
                "INTERLINE_KAFKA_MTLS_URL",
                format!("kafka://localhost:{mtls_port}?{}", query(MTLS_QUERY)),
            ),
            ("INTERLINE_KAFKA_KILL", control("kill")?),
            ("INTERLINE_KAFKA_START", control("start")?),
            ("INTERLINE_KAFKA_RESTART", control("restart")?),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_same_everywhere() {
        let text = |name: &str| fs::read_to_string(root().join("deploy/kafka").join(name)).unwrap();
        assert!(text("pom.xml").contains(&format!("<kafka.version>{VERSION}</kafka.version>")));
        assert!(text("compose.yaml").contains(&format!("image: apache/kafka:{VERSION}\n")));
    }

    #[test]
    fn the_address_of_a_url() {
        assert_eq!(
            first_address("kafka://127.0.0.1:9092"),
            Some("127.0.0.1:9092")
        );
        assert_eq!(first_address("kafka://u:p@a:1,b:2?sasl=plain"), Some("a:1"));
        assert_eq!(first_address("kafka://a:1/x"), Some("a:1"));
        assert_eq!(first_address("redis://a:1"), None);
        assert_eq!(first_address("kafka://a"), None);
    }
}
