//! A server that says what a test wants to hear: the greeting of an old version.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

pub(crate) struct Fake {
    port: u16,
}

impl Fake {
    /// Greets with this version, and answers pings.
    pub(crate) async fn start(version: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let greeting = format!(
            "INFO {{\"server_id\":\"old\",\"version\":\"{version}\",\"headers\":true,\
             \"max_payload\":1048576,\"jetstream\":true}}\r\n"
        );
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let greeting = greeting.clone();
                tokio::spawn(async move {
                    if client.write_all(greeting.as_bytes()).await.is_err() {
                        return;
                    }
                    let mut buffer = [0; 4_096];
                    while let Ok(1..) = client.read(&mut buffer).await {
                        if client.write_all(b"PONG\r\n").await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}
