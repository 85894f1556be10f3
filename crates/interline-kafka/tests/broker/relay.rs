//! A way to the broker whose connections can fall silent, as when a firewall forgets them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::support::url;

const HOST: &str = "127.0.0.1";

/// What a request is about, as the protocol numbers it.
pub(crate) const PRODUCE: u8 = 0;
pub(crate) const FETCH: u8 = 1;

/// Passes everything on between clients and the broker, and puts its own port wherever the broker
/// names its own.
pub(crate) struct Relay {
    port: u16,
    /// How often connections were made to fall silent, by what they had carried before.
    silences: Arc<[AtomicUsize; 2]>,
}

/// What is known of one connection.
struct Connection {
    ports: [u16; 2],
    silences: Arc<[AtomicUsize; 2]>,
    /// The silences before it was made do not concern it.
    earlier: [usize; 2],
    carried: [AtomicBool; 2],
}

impl Relay {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((HOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = url();
        let broker = broker.rsplit_once(':').unwrap().1.split('?').next();
        let broker: u16 = broker.unwrap().parse().unwrap();
        let silences = Arc::<[AtomicUsize; 2]>::default();
        let relay = Self {
            port,
            silences: Arc::clone(&silences),
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let connection = Arc::new(Connection {
                    ports: [broker, port],
                    earlier: [0, 1].map(|kind: usize| silences[kind].load(Ordering::SeqCst)),
                    silences: Arc::clone(&silences),
                    carried: Default::default(),
                });
                connection.relay(client).await;
            }
        });
        relay
    }

    pub(crate) fn url(&self) -> String {
        format!("kafka://{HOST}:{}", self.port)
    }

    /// From now on nothing comes through the connections that have carried such requests, and
    /// none of them is closed. New ones work.
    pub(crate) fn silence(&self, kind: u8) {
        self.silences[usize::from(kind)].fetch_add(1, Ordering::SeqCst);
    }
}

impl Connection {
    async fn relay(self: Arc<Self>, client: TcpStream) {
        let Ok(broker) = TcpStream::connect((HOST, self.ports[0])).await else {
            return;
        };
        let (from_client, to_client) = client.into_split();
        let (from_broker, to_broker) = broker.into_split();
        tokio::spawn(Arc::clone(&self).pass(from_client, to_broker, Self::note));
        tokio::spawn(self.pass(from_broker, to_client, Self::rename));
    }

    /// Passes on frame by frame; one that it may not pass on is swallowed.
    async fn pass(
        self: Arc<Self>,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        look: fn(&Self, &mut [u8]),
    ) {
        while let Ok(size) = from.read_u32().await {
            let mut frame = vec![0; size as usize];
            if from.read_exact(&mut frame).await.is_err() {
                break;
            }
            look(&self, &mut frame);
            if self.is_silent() {
                continue;
            }
            if to.write_u32(size).await.is_err() || to.write_all(&frame).await.is_err() {
                break;
            }
        }
        if self.is_silent() {
            // A connection that is forgotten tells neither side of the other's end.
            std::future::pending::<()>().await;
        }
    }

    /// A request begins with its kind, in two bytes.
    fn note(&self, request: &mut [u8]) {
        if let [0, kind @ (PRODUCE | FETCH), ..] = request {
            self.carried[usize::from(*kind)].store(true, Ordering::SeqCst);
        }
    }

    /// An address is its host followed by its port, in four bytes.
    fn rename(&self, response: &mut [u8]) {
        let address = |port: u16| [HOST.as_bytes(), &u32::from(port).to_be_bytes()].concat();
        let [theirs, ours] = self.ports.map(address);
        for at in 0..=response.len().saturating_sub(theirs.len()) {
            if response[at..].starts_with(&theirs) {
                response[at..at + ours.len()].copy_from_slice(&ours);
            }
        }
    }

    fn is_silent(&self) -> bool {
        (0..2).any(|kind| {
            self.carried[kind].load(Ordering::SeqCst)
                && self.silences[kind].load(Ordering::SeqCst) > self.earlier[kind]
        })
    }
}
