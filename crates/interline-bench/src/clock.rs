//! What time passes and whose processor time is spent.

use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

/// Where a measurement takes its times from.
pub(crate) trait Clock {
    /// What ran in this process.
    fn inside(&self) -> Inside;

    /// What ran elsewhere; slower to tell.
    fn outside(&self) -> Outside;
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Inside {
    pub(crate) wall: Duration,
    /// Processor time of this process with all its threads.
    pub(crate) cpu: Duration,
    /// How often this process has allocated, where that is counted.
    pub(crate) allocations: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outside {
    /// Processor time of the server with its child processes.
    pub(crate) server: Option<Duration>,
    /// Processor time of everything on this machine.
    pub(crate) all: Option<Duration>,
}

/// Which server is measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Server {
    #[default]
    None,
    /// A process of this machine.
    Process(u32),
    /// In a container or on another machine: what it spends cannot be told.
    Elsewhere,
}

/// This machine.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Machine(pub(crate) Server);

impl Clock for Machine {
    fn inside(&self) -> Inside {
        Inside {
            wall: now(ClockId::Monotonic),
            cpu: now(ClockId::ProcessCPUTime),
            allocations: allocations(),
        }
    }

    fn outside(&self) -> Outside {
        let server = match self.0 {
            Server::Process(pid) => family(pid),
            Server::None => Some(Duration::ZERO),
            Server::Elsewhere => None,
        };
        Outside {
            server,
            all: fs::read_to_string("/proc/stat").ok().and_then(|s| busy(&s)),
        }
    }
}

fn now(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Whether allocations are counted. Times mean little then.
pub(crate) const COUNTS: bool = cfg!(feature = "allocations");

#[cfg(feature = "allocations")]
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

fn allocations() -> Option<usize> {
    #[cfg(feature = "allocations")]
    {
        let stats = ALLOCATOR.stats();
        Some(stats.allocations + stats.reallocations)
    }
    #[cfg(not(feature = "allocations"))]
    None
}

/// The time of a process, of its children, and of those of them that have ended.
fn family(pid: u32) -> Option<Duration> {
    let stat = |pid: &str| fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let own = Stat::parse(&stat(&pid.to_string())?)?;
    let others = fs::read_dir("/proc").ok()?.flatten();
    let names = others.filter_map(|entry| entry.file_name().into_string().ok());
    let numbers = names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let children = numbers.filter_map(|name| Stat::parse(&stat(&name)?));
    let children = children.filter(|child| child.parent == pid);
    let live: u64 = children.map(|child| child.ticks).sum();
    Some(ticks(own.ticks + own.of_ended + live))
}

struct Stat {
    parent: u32,
    ticks: u64,
    /// Of children that have ended.
    of_ended: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name of a process may hold anything, but ends with the last parenthesis.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            ticks: ticks(11)? + ticks(12)?,
            of_ended: ticks(13)? + ticks(14)?,
        })
    }
}

/// What all processors did but wait; what a hypervisor took from them counts.
fn busy(stat: &str) -> Option<Duration> {
    let all = stat.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = all
        .split_whitespace()
        .map_while(|f| f.parse().ok())
        .collect();
    let [
        user,
        nice,
        system,
        _idle,
        _wait,
        interrupts,
        soft,
        stolen,
        ..,
    ] = fields[..]
    else {
        return None;
    };
    Some(ticks(user + nice + system + interrupts + soft + stolen))
}

fn ticks(count: u64) -> Duration {
    Duration::from_nanos(count * (1_000_000_000 / clock_ticks_per_second().max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_understood() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 9 9 0 0 30 12 5 3 20 0 1 0 8";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!((stat.parent, stat.ticks, stat.of_ended), (1, 42, 8));
        let all = busy("cpu  10 20 30 1000 50 1 2 3 9 0\ncpu0 1 1 1 1").unwrap();
        assert_eq!(all, ticks(66));
        assert!(busy("intr 1").is_none());
    }

    #[test]
    fn this_process_is_part_of_the_machine() {
        let machine = Machine(Server::Process(std::process::id()));
        let (inside, outside) = (machine.inside(), machine.outside());
        assert!(outside.server <= outside.all && inside.wall > Duration::ZERO);
    }
}
