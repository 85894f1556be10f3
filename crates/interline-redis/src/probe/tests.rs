use super::*;
use crate::config::Config;

fn check(version: &str, mode: &str, role: &str) -> Result<()> {
    let info = format!(
        "# Server\r\nredis_version:{version}\r\nredis_mode:{mode}\r\n# Replication\r\nrole:{role}\r\n"
    );
    let resolved = Config::try_from("redis://localhost")?.resolve()?;
    check_server(&info, &resolved)
}

#[test]
fn only_a_server_that_can_serve_is_accepted() {
    assert!(check("7.0.15", "standalone", "master").is_ok());
    assert!(check("8.2.0", "standalone", "master").is_ok());
    for (version, mode, role, said) in [
        ("6.2.14", "standalone", "master", "Redis 6.2.14"),
        ("", "standalone", "master", "is Redis"),
        ("7.2.4", "cluster", "master", "Cluster"),
        ("7.2.4", "standalone", "slave", "replica"),
    ] {
        let refused = check(version, mode, role).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        assert!(refused.message().contains(said), "{refused}");
        assert!(refused.remedy_text().is_some(), "{refused}");
    }
}

fn probe(durability: Durability, syncs: bool, evicts: Option<&str>) -> Probe {
    Probe {
        durability,
        syncs,
        is_verified: true,
        evicts: evicts.map(str::to_owned),
    }
}

#[test]
fn a_promise_is_held_against_the_profile() {
    let accepts = |probe: &Probe, url| {
        let resolved = Config::try_from(url).unwrap().resolve().unwrap();
        let checked = probe.check(&resolved, resolved.min_durability, "connect");
        checked.is_ok()
    };
    let (development, production) = ("redis://localhost", "redis://localhost?profile=production");
    let lossy = probe(Durability::Memory, false, None);
    assert!(accepts(&lossy, development));
    assert!(!accepts(&lossy, production));
    let evicting = probe(Durability::Disk, false, Some("allkeys-lru"));
    assert!(accepts(&evicting, development));
    assert!(!accepts(&evicting, production));
    let lazy = probe(Durability::Process, false, None);
    assert!(accepts(&lazy, production));
    let disk = "redis://localhost?min_durability=D2";
    assert!(!accepts(&lazy, disk));
    assert!(accepts(&probe(Durability::Process, true, None), disk));
}

#[test]
fn the_disk_is_waited_for_only_by_who_wants_it() {
    let lazy = probe(Durability::Process, true, None);
    for (wanted, level) in [
        (Durability::Memory, Durability::Process),
        (Durability::Process, Durability::Process),
        (Durability::Disk, Durability::Disk),
        (Durability::Quorum, Durability::Disk),
    ] {
        assert_eq!(lazy.level(wanted), level);
    }
    let cannot = probe(Durability::Process, false, None);
    assert_eq!(cannot.level(Durability::Disk), Durability::Process);
}

#[test]
fn a_declared_level_is_verified_only_by_waiting() {
    let declared = Probe {
        is_verified: false,
        ..probe(Durability::Process, true, None)
    };
    assert!(!declared.is_verified(Durability::Process));
    assert!(declared.is_verified(Durability::Disk));
}
