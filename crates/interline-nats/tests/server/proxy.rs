//! A way to the server that can be cut, or fall silent.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::url;

/// What the way does to those who are on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    Silent,
}

/// A proxy on a port of its own.
pub(crate) struct Proxy {
    address: SocketAddr,
    /// Changes with every cut; connections of an earlier number end.
    cuts: Arc<watch::Sender<u64>>,
    way: Arc<watch::Sender<Way>>,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        let server = url();
        let server = server.trim_start_matches("nats://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cuts, way) = (watch::Sender::new(0), watch::Sender::new(Way::Open));
        let proxy = Self {
            address,
            cuts: Arc::new(cuts),
            way: Arc::new(way),
        };
        let (cuts, way) = (Arc::clone(&proxy.cuts), Arc::clone(&proxy.way));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else {
                    continue;
                };
                tokio::spawn(carry(client, server, cuts.subscribe(), way.subscribe()));
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets nothing pass any more, without a word.
    pub(crate) fn silence(&self) {
        self.way.send_replace(Way::Silent);
    }

    /// Lets new connections pass again, and cuts the silent ones.
    pub(crate) fn open(&self) {
        self.way.send_replace(Way::Open);
    }
}

async fn carry(
    client: TcpStream,
    server: TcpStream,
    mut cuts: watch::Receiver<u64>,
    way: watch::Receiver<Way>,
) {
    let (mut client_in, mut client_out) = client.into_split();
    let (mut server_in, mut server_out) = server.into_split();
    let back = way.clone();
    tokio::select! {
        _ = cuts.changed() => {}
        () = pass(&mut client_in, &mut server_out, way) => {}
        () = pass(&mut server_in, &mut client_out, back) => {}
    }
}

async fn pass(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        if *way.borrow_and_update() == Way::Silent {
            // What is on its way is lost; the connection stays until the way opens again.
            let _ = way.changed().await;
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
