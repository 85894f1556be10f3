//! Free loopback ports.

use std::net::TcpListener;
use std::ops::Range;

use super::random;
use crate::Result;

/// Below every usual range of ephemeral ports. A server is killed and started again on its port: from the ephemeral
/// range the system could give that port to an outgoing connection meanwhile, even to one that then reaches itself.
const RANGE: Range<u16> = 20_000..32_000;

/// That many different ports of 127.0.0.1 that nobody listens on now.
pub(super) fn free(count: usize) -> Result<Vec<u16>> {
    let first = random() as usize % RANGE.len();
    // The listeners are kept until all ports are found, so that no port is found twice.
    let mut held = Vec::with_capacity(count);
    for port in RANGE.cycle().skip(first).take(RANGE.len()) {
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            held.push((port, listener));
        }
        if held.len() == count {
            return Ok(held.into_iter().map(|(port, _)| port).collect());
        }
    }
    Err("no free port on 127.0.0.1".into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_differ_and_lie_below_the_ephemeral_range() {
        let ports = super::free(4).unwrap();
        assert!(ports.iter().all(|p| super::RANGE.contains(p)));
        assert!((1..4).all(|i| !ports[..i].contains(&ports[i])));
    }
}
