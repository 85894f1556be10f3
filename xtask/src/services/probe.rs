//! Is a server ready? Asked in its own protocol.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(2);

/// A Metadata request, version 4 (KIP-4), for no topic at all.
const METADATA: [u8; 19] = [
    0, 0, 0, 15, // length of what follows
    0, 3, 0, 4, // api key, version
    0, 0, 0, 1, // correlation id
    0xff, 0xff, // no client id
    0, 0, 0, 0, // topics: none
    0, // do not create topics
];

/// How many brokers the cluster at `address` knows. One that has just started answers with zero until its
/// controller has accepted it: only then can topics be created.
pub(super) fn brokers(address: &str) -> Result<usize> {
    let mut stream = connect(address)?;
    stream.write_all(&METADATA)?;
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    // length, correlation id, throttle time, then the array of brokers
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if word(4) != 1 {
        return Err(Error::new(ErrorKind::InvalidData, "not a Kafka broker"));
    }
    Ok(word(12) as usize)
}

/// Whether what comes back after `request` begins with `expected`.
pub(super) fn answers(address: &str, request: &[u8], expected: &[u8]) -> Result<bool> {
    let mut stream = connect(address)?;
    stream.write_all(request)?;
    let mut head = vec![0; expected.len()];
    stream.read_exact(&mut head)?;
    Ok(head == expected)
}

/// Connects within two seconds to the first address that answers.
pub(super) fn connect(address: &str) -> Result<TcpStream> {
    let mut last = Error::new(ErrorKind::NotFound, "the name has no address");
    for target in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&target, TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                return Ok(stream);
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// The address of a server that reads `request` bytes and answers once.
    fn server(request: usize, bytes: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            stream.read_exact(&mut vec![0; request]).unwrap();
            stream.write_all(bytes).unwrap();
        });
        address
    }

    #[test]
    fn counts_the_brokers_of_an_answer() {
        let address = server(
            super::METADATA.len(),
            &[0, 0, 0, 99, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3],
        );
        assert_eq!(super::brokers(&address).unwrap(), 3);
    }

    #[test]
    fn another_server_is_refused() {
        let address = server(super::METADATA.len(), b"HTTP/1.1 400 Bad Request\r\n");
        assert!(super::brokers(&address).is_err());
    }

    #[test]
    fn only_the_expected_answer_counts() {
        let ask = |address: String| super::answers(&address, b"PING\r\n", b"+PONG").unwrap();
        assert!(ask(server(6, b"+PONG\r\n")));
        assert!(!ask(server(6, b"-LOADING\r\n")));
    }

    #[test]
    fn the_request_states_its_own_length() {
        assert_eq!(usize::from(super::METADATA[3]), super::METADATA.len() - 4);
    }
}
