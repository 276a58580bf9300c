//! A way to a server over TCP that can stop carrying anything without a word to either side, as a broken network
//! does, and that can take its time for each connection, as a server does that has restarted.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

/// What is carried: everything, until told otherwise.
pub struct Proxy {
    port: u16,
    to_server: watch::Sender<bool>,
    to_client: watch::Sender<bool>,
    cuts: watch::Sender<()>,
    delay: watch::Sender<Duration>,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

/// A direction, or both.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    ToServer,
    ToClient,
    Both,
}

impl Proxy {
    /// Leads from a free port of 127.0.0.1 to a server's socket.
    pub async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (to_server, to_client, cuts) =
            (watch::Sender::new(true), watch::Sender::new(true), watch::Sender::new(()));
        let (up, down, cut) = (to_server.subscribe(), to_client.subscribe(), cuts.subscribe());
        let (delay, accepted) = (watch::Sender::new(Duration::ZERO), Arc::<AtomicUsize>::default());
        let (delayed, counted) = (delay.subscribe(), accepted.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let delay = *delayed.borrow();
                sleep(delay).await;
                let (socket, up, down, mut cut) = (socket.clone(), up.clone(), down.clone(), cut.clone());
                cut.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = connect(client, socket, up, down) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { port, to_server, to_client, cuts, delay, accepted, accepting }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Carries nothing more this way, not even the end of a connection. What is sent meanwhile is held back.
    pub fn stall(&self, way: Way) {
        self.to_server.send_replace(matches!(way, Way::ToClient));
        self.to_client.send_replace(matches!(way, Way::ToServer));
    }

    /// Carries everything again, and what was held back first.
    pub fn resume(&self) {
        self.to_server.send_replace(true);
        self.to_client.send_replace(true);
    }

    /// From now on takes so long for each connection, one after the other, even if the client has left.
    pub fn delay(&self, each: Duration) {
        self.delay.send_replace(each);
    }

    /// How many connections there were.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Closes the connections that there are, towards both sides.
    pub fn cut(&self) {
        self.cuts.send_replace(());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Ends, and closes the connection, when the server cannot be reached or one side has left.
async fn connect(
    mut client: TcpStream,
    socket: PathBuf,
    up: watch::Receiver<bool>,
    down: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut server = UnixStream::connect(socket).await?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(pump(from_client, to_server, up), pump(from_server, to_client, down)).map(drop)
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut flows: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if flows.wait_for(|flows| *flows).await.is_err() || length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}
