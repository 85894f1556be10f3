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

#[test]
fn a_promise_is_held_against_the_profile() {
    let probe = |durability, evicts: Option<&str>| Probe {
        durability,
        is_verified: true,
        evicts: evicts.map(str::to_owned),
    };
    let resolve = |url| Config::try_from(url).unwrap().resolve().unwrap();
    let development = resolve("redis://localhost");
    let production = resolve("redis://localhost?profile=production");
    let lossy = probe(Durability::Memory, None);
    assert!(lossy.check(&development, "connect").is_ok());
    assert!(lossy.check(&production, "connect").is_err());
    let evicting = probe(Durability::Disk, Some("allkeys-lru"));
    assert!(evicting.check(&development, "connect").is_ok());
    assert!(evicting.check(&production, "connect").is_err());
    assert!(
        probe(Durability::Process, None)
            .check(&production, "connect")
            .is_ok()
    );
}
