//! A server as a process of this machine.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::server::Server;
use crate::{Result, exec};

/// Runs a command without the descriptors above 2: a server that inherits, say, a lock file's would hold that lock.
const WITHOUT_DESCRIPTORS: &str = r#"
for fd in /dev/fd/*; do fd=${fd##*/}; [ "$fd" -gt 2 ] && eval "exec $fd>&-"; done
exec "$@""#;

/// Makes the data directory of a new server.
pub(super) fn format(server: &Server) -> Result<()> {
    if let Some((user, group)) = other_user(server.kind.native.user)? {
        let owner = format!("{user}:{group}");
        exec::output(Command::new("chown").args(["-R", &owner]).arg(&server.dir))?;
    }
    (server.kind.native.format)(server)
}

/// Starts it in a process group of its own and returns its id.
pub(super) fn spawn(server: &Server, command: &Command, user: Option<(u32, u32)>) -> Result<u32> {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log(&server.dir))?;
    let mut shell = Command::new("bash");
    shell
        .args(["-c", WITHOUT_DESCRIPTORS, server.kind.name])
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .current_dir(&server.dir);
    become_user(&mut shell, user);
    Ok(shell.spawn()?.id())
}

/// Where the server of `dir` writes.
pub(super) fn log(dir: &Path) -> PathBuf {
    dir.join("server.log")
}

/// Has `command` run as that user and group.
pub(super) fn become_user(command: &mut Command, user: Option<(u32, u32)>) {
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
}

/// The ids of the user `name` and of its group, if this process belongs to root and so may choose.
pub(super) fn other_user(name: Option<&str>) -> Result<Option<(u32, u32)>> {
    match name {
        Some(name) if id(&["-u"])? == 0 => Ok(Some((id(&["-u", name])?, id(&["-g", name])?))),
        _ => Ok(None),
    }
}

fn id(args: &[&str]) -> Result<u32> {
    Ok(exec::output(Command::new("id").args(args))?
        .trim()
        .parse()?)
}

/// True if process `pid` runs and its command line contains `mark`; so a number that the system gave to another
/// process meanwhile is never taken for ours. A zombie counts as ended once its other threads are: they hold its ports.
pub(super) fn is_running(pid: u32, mark: &str) -> bool {
    let line = match fs::read(format!("/proc/{pid}/cmdline")) {
        // Empty while a process is being started, and for a zombie; only the latter has no program either.
        Ok(line) if line.is_empty() => {
            let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            return threads > 1 || fs::read_link(format!("/proc/{pid}/exe")).is_ok();
        }
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

/// Ends the server of `dir` with all its processes at once, and waits until they are gone.
pub(super) fn kill(pid: u32, dir: &Path) -> Result<()> {
    let mark = dir.to_string_lossy();
    if !is_running(pid, &mark) {
        return Ok(());
    }
    // PostgreSQL's processes leave its group. Stopped first, it can neither start more of them nor see one die.
    exec::signal_group("STOP", pid);
    let children = children(pid);
    exec::signal_group("KILL", pid);
    for child in &children {
        exec::signal("KILL", *child);
    }
    wait_until_gone(pid, &mark)?;
    children
        .iter()
        .try_for_each(|child| wait_until_gone(*child, ""))
}

/// Ends the server of `dir` by its own `signal`, or by force if it does not end.
pub(super) fn stop(pid: u32, dir: &Path, signal: &str) -> Result<()> {
    let mark = dir.to_string_lossy();
    if signal != "KILL" && is_running(pid, &mark) {
        exec::signal(signal, pid);
        if wait_until_gone(pid, &mark).is_ok() {
            return Ok(());
        }
    }
    kill(pid, dir)
}

fn wait_until_gone(pid: u32, mark: &str) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while is_running(pid, mark) {
        if Instant::now() > end {
            return Err(format!("the process {pid} does not end").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The processes that `of` has started.
fn children(of: u32) -> Vec<u32> {
    let is_linux = Path::new("/proc/self").exists();
    if !is_linux {
        let listed = Command::new("pgrep").args(["-P", &of.to_string()]).output();
        let listed = listed.map(|o| o.stdout).unwrap_or_default();
        let listed = String::from_utf8_lossy(&listed);
        return listed.lines().filter_map(|pid| pid.parse().ok()).collect();
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter(|pid| parent(*pid) == Some(of))
        .collect()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it, in parentheses, may contain anything.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_children() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert!(children(std::process::id()).contains(&child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!is_running(child.id(), ""));
    }
}
