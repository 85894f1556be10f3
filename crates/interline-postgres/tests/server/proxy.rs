//! A line to the server that can be cut in the middle of an answer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use interline_postgres::Transport;
use interline_transport::settings::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::{bare, migrate, url, within};

/// What happens to what the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// It passes.
    Pass,
    /// It is swallowed, and the line is cut, for statements that store something: what they did is
    /// done, and nobody hears of it.
    Lost,
    /// The same, and it passes from then on.
    LostOnce,
}

pub(crate) struct Proxy {
    pub(crate) url: String,
    pub(crate) answers: watch::Sender<Answers>,
    cut: watch::Receiver<usize>,
    /// Of its lines, as the server sees them.
    ports: Arc<Mutex<Vec<i32>>>,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        let address = Address::parse(&url()).unwrap();
        let server = address.endpoints[0].with_port(5_432);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let SocketAddr::V4(own) = listener.local_addr().unwrap() else {
            unreachable!("bound to an address of version 4");
        };
        let answers = watch::Sender::new(Answers::Pass);
        let (cuts, cut) = watch::channel(0);
        let ports = Arc::default();
        let through = url().replace(&server, &own.to_string());
        assert_ne!(through, url(), "the URL does not hold {server}");
        let shared = Arc::clone(&ports);
        tokio::spawn(accept(listener, server, answers.clone(), cuts, shared));
        Self {
            url: through,
            answers,
            cut,
            ports,
        }
    }

    /// Has the server end those of its lines whose application name is like `name`. Tests beside
    /// this one keep theirs.
    pub(crate) async fn terminate(&self, name: &str) {
        let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity
            where client_port = any($1) and application_name like $2";
        let ports = self.ports.lock().unwrap().clone();
        bare().await.query_one(sql, &[&ports, &name]).await.unwrap();
    }

    /// A transport that goes through it.
    pub(crate) async fn connect(&self) -> Transport {
        migrate().await;
        within(interline_postgres::connect(&*self.url))
            .await
            .unwrap()
    }

    /// Waits until this many lines were cut.
    pub(crate) async fn cut(&mut self, lines: usize) {
        within(self.cut.wait_for(|cut| *cut >= lines))
            .await
            .unwrap();
    }
}

async fn accept(
    listener: TcpListener,
    server: String,
    answers: watch::Sender<Answers>,
    cuts: watch::Sender<usize>,
    ports: Arc<Mutex<Vec<i32>>>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let server = TcpStream::connect(&server).await.unwrap();
        let port = server.local_addr().unwrap().port();
        ports.lock().unwrap().push(port.into());
        tokio::spawn(forward(client, server, answers.clone(), cuts.clone()));
    }
}

/// Carries bytes both ways until either side ends. An answer is lost if it is to a large request:
/// those that only look are small.
async fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    answers: watch::Sender<Answers>,
    cuts: watch::Sender<usize>,
) {
    const LARGE: usize = 4_096;
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut asked = 0;
    loop {
        tokio::select! {
            read = client.read(&mut up) => match read {
                Ok(size) if size > 0 => {
                    asked += size;
                    if server.write_all(&up[..size]).await.is_err() { return }
                }
                _ => return,
            },
            read = server.read(&mut down) => match read {
                Ok(size) if size > 0 => {
                    let fate = *answers.borrow();
                    if fate != Answers::Pass && asked > LARGE {
                        if fate == Answers::LostOnce {
                            answers.send_replace(Answers::Pass);
                        }
                        cuts.send_modify(|cut| *cut += 1);
                        return;
                    }
                    asked = 0;
                    if client.write_all(&down[..size]).await.is_err() { return }
                }
                _ => return,
            },
        }
    }
}
