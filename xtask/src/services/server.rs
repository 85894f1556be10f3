//! One server: started, found ready, broken on purpose, stopped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::kind::{Kind, by_name};
use super::{compose, native, ports, random, record};
use crate::{Result, exec, root, tools};

const READY_WITHIN: Duration = Duration::from_secs(90);

/// A server that this machine runs for us.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Server {
    #[serde(with = "by_name")]
    pub(super) kind: &'static Kind,
    /// The process that stops it when it ends; none for `services up`.
    owner: Option<u32>,
    how: How,
    /// Certificates, settings, log and, for a native one, data. Deleted at the stop.
    pub(super) dir: PathBuf,
    pub(super) password: String,
    /// In the order of its kind.
    ports: Vec<u16>,
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

impl Server {
    /// Starts one and waits until it is ready. It is recorded in `file` before there is anything of it.
    pub(super) fn start_new(
        kind: &'static Kind,
        file: &Path,
        owner: Option<u32>,
        install: bool,
    ) -> Result<Self> {
        tools::require(tools::PREPARE, kind.name, install)?;
        let in_container = tools::docker();
        if !in_container {
            let purpose = format!("{} without a Docker engine", kind.name);
            tools::require(kind.native.tools, &purpose, install)?;
        }
        let mut attempts = 3;
        loop {
            attempts -= 1;
            let mut server = Self::plan(kind, owner, in_container)?;
            match server.launch(file) {
                Ok(()) => return Ok(server),
                // Another process may take a free port before the server does.
                Err(e)
                    if attempts > 0
                        && e.to_string()
                            .to_lowercase()
                            .contains("address already in use") =>
                {
                    server.stop();
                }
                Err(e) => {
                    server.stop();
                    record::remove(file);
                    return Err(e);
                }
            }
        }
    }

    fn plan(kind: &'static Kind, owner: Option<u32>, in_container: bool) -> Result<Self> {
        let name = format!(
            "interline-{}-{:012x}",
            kind.name,
            random() & 0xffff_ffff_ffff
        );
        let dir = std::env::temp_dir().join(&name);
        let how = if in_container {
            How::Compose { project: name }
        } else {
            How::Native { pid: 0 }
        };
        Ok(Self {
            kind,
            owner,
            how,
            dir,
            password: format!("{:016x}", random()),
            ports: ports::free(kind.ports.len())?,
        })
    }

    fn launch(&mut self, file: &Path) -> Result<()> {
        // Recorded before there is anything, so that an interrupt finds its directory and its container.
        record::create(file, self)?;
        self.prepare()?;
        match &self.how {
            How::Compose { project } => {
                compose::up(self.kind, project, &self.dir, &self.settings())?;
                self.wait_until_ready()
            }
            How::Native { .. } => {
                native::format(self)?;
                self.spawn(file)?;
                self.wait_until_ready()?;
                (self.kind.native.introduce)(self)
            }
        }
    }

    /// Certificates and settings, by the script that users run as well.
    fn prepare(&self) -> Result<()> {
        let mut prepare = Command::new(root().join("deploy/prepare.sh"));
        prepare
            .arg(self.kind.name)
            .arg(&self.dir)
            .envs(self.settings());
        if matches!(self.how, How::Native { .. }) {
            prepare.env(self.kind.variable("BIND"), "127.0.0.1");
            prepare.env(self.kind.variable("MOUNT"), &self.dir);
            prepare.env(self.kind.variable("DATA"), self.dir.join("data"));
        }
        exec::output(&mut prepare).map(drop)
    }

    /// The words of deploy/NAME/defaults that are its own.
    fn settings(&self) -> Vec<(String, String)> {
        let mut settings = vec![(self.kind.variable("PASSWORD"), self.password.clone())];
        let ports = self.kind.ports.iter().zip(&self.ports);
        settings.extend(ports.map(|(word, port)| (self.kind.variable(word), port.to_string())));
        settings
    }

    /// Starts the native process and records it. An interrupt waits until both have happened.
    fn spawn(&mut self, file: &Path) -> Result<()> {
        let command = (self.kind.native.command)(self)?;
        let user = native::other_user(self.kind.native.user)?;
        let _no_interrupt = super::owned();
        self.how = How::Native {
            pid: native::spawn(self, &command, user)?,
        };
        record::update(file, self).inspect_err(|_| self.stop())
    }

    fn wait_until_ready(&self) -> Result<()> {
        let address = format!("127.0.0.1:{}", self.port());
        let end = Instant::now() + READY_WITHIN;
        loop {
            match (self.kind.is_ready)(&address) {
                Ok(true) => return Ok(()),
                _ if Instant::now() < end && self.alive() => {
                    std::thread::sleep(Duration::from_millis(50))
                }
                answer => {
                    let name = self.kind.name;
                    let what = format!(
                        "{name} on {address} is not ready ({answer:?}); its log ends with:"
                    );
                    return Err(format!("{what}\n{}", exec::tail(&self.log(), 40)).into());
                }
            }
        }
    }

    fn log(&self) -> String {
        match &self.how {
            How::Native { .. } => fs::read_to_string(native::log(&self.dir)).unwrap_or_default(),
            How::Compose { project } => compose::log(self.kind, project),
        }
    }

    /// The one without encryption.
    pub(super) fn port(&self) -> u16 {
        self.ports.first().copied().unwrap_or_default()
    }

    pub(super) fn alive(&self) -> bool {
        match &self.how {
            How::Native { pid } => native::is_running(*pid, &self.dir.to_string_lossy()),
            How::Compose { project } => compose::is_running(self.kind, project),
        }
    }

    pub(super) fn owner_is_gone(&self) -> bool {
        self.owner
            .is_some_and(|pid| !native::is_running(pid, "xtask"))
    }

    /// SIGKILL: the server has no time to write anything.
    pub(super) fn kill(&self) -> Result<()> {
        match &self.how {
            How::Native { pid } => native::kill(*pid, &self.dir),
            How::Compose { project } => compose::kill(self.kind, project),
        }
    }

    /// Starts a killed one again, on the same ports and data, and waits until it is ready.
    pub(super) fn start(mut self, file: &Path) -> Result<()> {
        if !self.alive() {
            match &self.how {
                How::Native { .. } => self.spawn(file)?,
                How::Compose { project } => compose::start(self.kind, project)?,
            }
        }
        self.wait_until_ready()
    }

    /// Stops it and deletes everything that it had.
    pub(super) fn stop(&self) {
        let stopped = match &self.how {
            How::Native { pid } => native::stop(*pid, &self.dir, self.kind.native.stop),
            How::Compose { project } => compose::down(self.kind, project),
        };
        if let Err(e) = stopped {
            eprintln!("{}  {e}", self.kind.name);
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
        let ports = self.kind.ports.iter().zip(&self.ports);
        let ports: Vec<_> = ports.map(|(word, port)| format!("{word} {port}")).collect();
        format!(
            "{:<9} {running}, {how}, {}",
            self.kind.name,
            ports.join(", ")
        )
    }

    /// What child processes need to find it, and to break it by `sh -c`.
    pub(super) fn env(&self, file: &Path) -> Result<Vec<(String, String)>> {
        let xtask = std::env::current_exe()?;
        let records = file.parent().unwrap_or(file);
        let control = |verb: &str| {
            let (xtask, records, name) = (xtask.display(), records.display(), self.kind.name);
            format!("\"{xtask}\" services {verb} {name} --state \"{records}\"")
        };
        let mut env: Vec<_> = self
            .kind
            .urls
            .iter()
            .map(|(word, url)| (self.kind.variable(word), self.filled_in(url)))
            .collect();
        env.extend(
            ["kill", "start", "restart"]
                .map(|verb| (self.kind.variable(&verb.to_uppercase()), control(verb))),
        );
        if let How::Native { pid } = self.how {
            env.push((self.kind.variable("PID"), pid.to_string()));
        }
        Ok(env)
    }

    fn filled_in(&self, url: &str) -> String {
        let url = url
            .replace("{PASSWORD}", &self.password)
            .replace("{DIR}", &self.dir.to_string_lossy());
        let ports = self.kind.ports.iter().zip(&self.ports);
        ports.fold(url, |url, (word, port)| {
            url.replace(&format!("{{{word}}}"), &port.to_string())
        })
    }
}
