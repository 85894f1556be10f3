//! Apache Kafka as a process of this machine, from its jars.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::kafka::VERSION;
use crate::{Result, exec, root};

/// A fixed id saves one start of the Java machine; every broker has its own directory.
const CLUSTER_ID: &str = "interlineAAAAAAAAAAAAA";

/// Runs a command without the descriptors above 2: a broker that inherits, say, a lock file's would hold that lock.
const WITHOUT_DESCRIPTORS: &str = r#"
for fd in /dev/fd/*; do fd=${fd##*/}; [ "$fd" -gt 2 ] && eval "exec $fd>&-"; done
exec "$@""#;

/// The folder of Kafka's jars, fetched through Maven unless it is there.
pub(super) fn jars() -> Result<PathBuf> {
    let cache =
        std::env::var_os("INTERLINE_CACHE").map_or_else(|| root().join(".cache"), PathBuf::from);
    let home = std::path::absolute(cache)?.join(format!("kafka-{VERSION}"));
    let jars = home.join("lib");
    if jars.exists() {
        return Ok(jars);
    }
    println!("fetching Apache Kafka {VERSION}");
    // Complete under its final name or not at all, also when two processes fetch at once.
    let partial = home.join(format!("partial-{}", std::process::id()));
    exec::output(
        Command::new("mvn")
            .args([
                "--batch-mode",
                "--quiet",
                "dependency:copy-dependencies",
                "-DincludeScope=runtime",
            ])
            .arg("-f")
            .arg(root().join("deploy/kafka/pom.xml"))
            .arg(format!("-DoutputDirectory={}", partial.display())),
    )?;
    if fs::rename(&partial, &jars).is_err() {
        fs::remove_dir_all(&partial)?;
    }
    Ok(jars)
}

fn java(jars: &Path) -> [String; 6] {
    let classes = format!("{}/*", jars.display());
    let log_level = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn";
    let log_time = "-Dorg.slf4j.simpleLogger.showDateTime=true";
    ["java", "-Xmx512m", log_level, log_time, "-cp", &classes].map(str::to_owned)
}

/// Makes the data directory that `dir`/server.properties names, with the SCRAM user in it.
pub(super) fn format(jars: &Path, dir: &Path, password: &str) -> Result<()> {
    let [java, options @ ..] = java(jars);
    let mut command = Command::new(java);
    command
        .args(options)
        .args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID]);
    command.arg("--add-scram").arg(format!(
        "SCRAM-SHA-512=[name=interline,password={password}]"
    ));
    exec::output(command.arg("-c").arg(dir.join("server.properties"))).map(drop)
}

/// Starts the broker in a process group of its own and returns its id.
pub(super) fn spawn(jars: &Path, dir: &Path) -> Result<u32> {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log(dir))?;
    let mut command = Command::new("bash");
    command
        .args(["-c", WITHOUT_DESCRIPTORS, "kafka"])
        .args(java(jars));
    command
        .arg("kafka.Kafka")
        .arg(dir.join("server.properties"));
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    Ok(command.process_group(0).current_dir(dir).spawn()?.id())
}

/// Where the broker of `dir` writes.
pub(super) fn log(dir: &Path) -> PathBuf {
    dir.join("kafka.log")
}

/// True if process `pid` runs and its command line contains `mark`; so a number that the system gave to another
/// process meanwhile is never taken for ours. A zombie counts as ended.
pub(super) fn is_running(pid: u32, mark: &str) -> bool {
    let line = match fs::read(format!("/proc/{pid}/cmdline")) {
        // Empty while a process is being started, and for a zombie; only the latter has no program either.
        Ok(line) if line.is_empty() => return fs::read_link(format!("/proc/{pid}/exe")).is_ok(),
        Ok(line) => line,
        Err(_) if Path::new("/proc/self").exists() => return false,
        Err(_) => {
            let listed = Command::new("ps")
                .args(["-o", "command=", "-p", &pid.to_string()])
                .output();
            listed.map(|o| o.stdout).unwrap_or_default()
        }
    };
    String::from_utf8_lossy(&line).contains(mark)
}

/// Kills the broker of `dir` and waits until it is gone.
pub(super) fn kill(pid: u32, dir: &Path) -> Result<()> {
    let mark = dir.to_string_lossy();
    let end = Instant::now() + Duration::from_secs(10);
    if is_running(pid, &mark) {
        exec::signal_group("KILL", pid);
    }
    while is_running(pid, &mark) {
        if Instant::now() > end {
            return Err(format!("the broker with process id {pid} does not end").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
