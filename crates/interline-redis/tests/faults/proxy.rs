//! A server whose disk does as it is told, made of any server: what stands between has it answer
//! the question for the disk as a server of version 7.2 would.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use interline_transport::settings::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::support::{url, within};

/// What becomes of the question whether the disk has everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// It has.
    Synced,
    /// It does not answer.
    Stuck,
    /// Not in time.
    Slow,
    /// The line is cut once something was written over it. Over another one, over which nothing
    /// was written, the disk has everything.
    Cut,
}

pub(crate) struct Proxy {
    pub(crate) url: String,
    pub(crate) disk: watch::Sender<Disk>,
    pub(crate) asked: watch::Receiver<usize>,
}

/// One connection through it.
struct Line {
    disk: watch::Receiver<Disk>,
    asked: watch::Sender<usize>,
    /// The line ends after the next answer.
    ends: AtomicBool,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        let address = Address::parse(&url()).unwrap();
        let server = address.endpoints[0].with_port(6_379);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let SocketAddr::V4(own) = listener.local_addr().unwrap() else {
            unreachable!("bound to an address of version 4");
        };
        let (disk, state) = watch::channel(Disk::Synced);
        let (asking, asked) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else {
                    continue;
                };
                let line = Arc::new(Line {
                    disk: state.clone(),
                    asked: asking.clone(),
                    ends: AtomicBool::new(false),
                });
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let asks = Arc::clone(&line).ask(from_client, to_server);
                tokio::spawn(async move {
                    tokio::select! {
                        () = asks => {}
                        () = line.answer(from_server, to_client) => {}
                    }
                });
            }
        });
        Self {
            url: format!("redis://{own}?min_durability=D2"),
            disk,
            asked,
        }
    }

    /// Waits until the disk was asked for this often.
    pub(crate) async fn until_asked(&mut self, times: usize) {
        let asked = self.asked.wait_for(|asked| *asked >= times);
        within(asked).await.unwrap();
    }
}

impl Line {
    /// Passes requests on, those for the disk in other words.
    async fn ask(self: Arc<Self>, mut client: OwnedReadHalf, mut server: OwnedWriteHalf) {
        let mut buffer = Vec::new();
        let (mut disk, mut has_written) = (self.disk.clone(), false);
        while client
            .read_buf(&mut buffer)
            .await
            .is_ok_and(|read| read > 0)
        {
            while let Some((command, len)) = first(&buffer) {
                let mut request: Vec<u8> = buffer.drain(..len).collect();
                if command == b"GETEX" {
                    has_written = true;
                    self.ends
                        .store(*disk.borrow() == Disk::Cut, Ordering::Relaxed);
                }
                if command == b"WAITAOF" {
                    self.asked.send_modify(|asked| *asked += 1);
                    let state = disk.wait_for(|disk| *disk != Disk::Stuck || !has_written);
                    let Ok(state) = state.await.map(|state| *state) else {
                        return;
                    };
                    let synced = !has_written || state == Disk::Synced;
                    let script = format!("return {{{},0}}", u8::from(synced));
                    request = format!("*3\r\n$4\r\nEVAL\r\n$12\r\n{script}\r\n$1\r\n0\r\n").into();
                }
                if server.write_all(&request).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Passes answers on.
    async fn answer(&self, mut server: OwnedReadHalf, mut client: OwnedWriteHalf) {
        let mut buffer = Vec::new();
        while server
            .read_buf(&mut buffer)
            .await
            .is_ok_and(|read| read > 0)
        {
            if client.write_all(&buffer).await.is_err() || self.ends.load(Ordering::Relaxed) {
                return;
            }
            buffer.clear();
        }
    }
}

/// The name of the first command in `buffer` and the length of all of it, if it is whole.
fn first(buffer: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut at = 0;
    let number = |at: &mut usize| {
        let end = *at
            + buffer
                .get(*at..)?
                .windows(2)
                .position(|two| two == b"\r\n")?;
        let text = std::str::from_utf8(&buffer[*at + 1..end]).unwrap();
        *at = end + 2;
        Some(text.parse::<usize>().unwrap())
    };
    let words = number(&mut at)?;
    let mut name = None;
    for _ in 0..words {
        let len = number(&mut at)?;
        let word = buffer.get(at..at + len + 2)?;
        name.get_or_insert_with(|| word[..len].to_vec());
        at += len + 2;
    }
    Some((name?, at))
}
