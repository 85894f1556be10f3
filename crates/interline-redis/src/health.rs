//! Whether a connection is up.

use std::time::SystemTime;

use fred::clients::Client;
use fred::interfaces::EventInterface;
use interline_core::State;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::error::one_line;

/// What is known of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    /// Since when it is down, and why.
    trouble: Option<(SystemTime, String)>,
    /// How often it came up. Another number than before means that requests may have been lost,
    /// and that the server may have been started anew.
    pub(crate) connects: u64,
}

impl Health {
    fn new() -> Self {
        Self {
            trouble: Some((SystemTime::now(), "not connected yet".to_owned())),
            connects: 0,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.trouble.is_none()
    }

    pub(crate) fn state(&self) -> State {
        match &self.trouble {
            None => State::Connected,
            Some((since, cause)) => State::Reconnecting {
                since: *since,
                cause: cause.clone(),
            },
        }
    }

    fn down(&mut self, cause: String) {
        match &mut self.trouble {
            Some((_, known)) => *known = cause,
            None => self.trouble = Some((SystemTime::now(), cause)),
        }
    }

    fn up(&mut self) {
        self.trouble = None;
        self.connects += 1;
    }
}

/// Follows what `client`, which is not connected yet, says of its connection.
pub(crate) fn watch(
    client: &Client,
) -> (
    watch::Receiver<Health>,
    impl Future<Output = ()> + Send + use<>,
) {
    let (mut errors, mut connects) = (client.error_rx(), client.reconnect_rx());
    let (sender, receiver) = watch::channel(Health::new());
    let following = async move {
        loop {
            tokio::select! {
                // A connection that came up again is told of after the error that cut it: in this
                // order the last word is true when both wait.
                biased;
                error = errors.recv() => match error {
                    Ok((error, _)) => sender.send_modify(|health| health.down(one_line(error.details()))),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                connect = connects.recv() => match connect {
                    Ok(_) => sender.send_modify(Health::up),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
            }
        }
    };
    (receiver, following)
}
