//! Whether a pooler in between loses notifications.
//!
//! In transaction mode it hands each transaction to any server process, and what a process sends while it is nobody's
//! is thrown away. Nothing fails; no notification comes. A probe that the same session sends proves nothing, for it
//! comes back within the transaction. So another session sends it, as an admin's would: but only where there is a
//! pooler, for each probe wakes every listener of the database.

use crate::{
    Error, Settings,
    deadline::within,
    session::{Session, column},
    transaction::READ,
};
use std::{
    convert::Infallible,
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc::{Receiver, channel},
};
use tokio_postgres::{
    AsyncMessage,
    tls::{ChannelBinding, TlsConnect, TlsStream},
};

/// Whether the process that answers is another one than the login named: poolers name one that they made up.
pub(super) async fn is_between(session: &Session) -> Result<bool, Error> {
    let answering: i32 = column(&session.row(READ, "SELECT pg_catalog.pg_backend_pid()", &[]).await?, 0)?;
    Ok(login_process(session).await != Some(answering))
}

/// Fails unless what another session sends reaches this one; it will be the next of `probes`.
pub(super) async fn check(
    settings: &Settings,
    session: &Session,
    probes: &mut Receiver<()>,
    limit: Duration,
) -> Result<(), Error> {
    let number = getrandom::u64().map_err(|_| Error::Unexpected("no random bytes".to_owned()))?;
    let channel_name = format!("integration_credentials_probe_{number:016x}");
    within(limit, session.batch(READ, &format!("LISTEN {channel_name}"))).await??;
    let (misled, mut strays) = channel(1);
    let other = Session::open(settings, move |message| {
        if let AsyncMessage::Notification(_) = message {
            let _ = misled.try_send(());
        }
    })
    .await?;
    let notify = format!("NOTIFY {channel_name}");
    let notified = within(limit, other.batch(READ, &notify)).await.unwrap_or_else(|late| Err(late.into()));
    if notified.is_err() {
        // It may wait for an answer that never comes.
        other.abort();
        return notified;
    }
    let arrived = tokio::select! {
        arrived = within(limit, probes.recv()) => matches!(arrived, Ok(Some(()))),
        // It never listened: the process that did is now lent to it.
        Some(()) = strays.recv() => false,
    };
    other.close().await;
    if !arrived {
        return Err(Error::NotificationsLost);
    }
    within(limit, session.batch(READ, &format!("UNLISTEN {channel_name}"))).await?
}

/// The process id that the server gave at login. Only a request to cancel shows it, so one is written, to nowhere.
async fn login_process(session: &Session) -> Option<i32> {
    let wire = Wire::default();
    session.cancel_token().cancel_query_raw(wire.clone(), AsIs).await.ok()?;
    let sent = wire.0.lock().unwrap_or_else(PoisonError::into_inner);
    // It ends with the process id and the secret key, of four bytes each.
    let process = sent.get(sent.len().checked_sub(8)?..)?.first_chunk()?;
    Some(i32::from_be_bytes(*process))
}

/// Keeps what is written, and agrees to TLS when it is asked.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Vec<u8>>>);

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        buffer.put_slice(b"S");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for Wire {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

/// What is written to [`Wire`] goes nowhere, so that nothing is to be encrypted.
struct AsIs;

impl TlsConnect<Wire> for AsIs {
    type Stream = Wire;
    type Error = Infallible;
    type Future = Ready<Result<Wire, Infallible>>;

    fn connect(self, stream: Wire) -> Self::Future {
        ready(Ok(stream))
    }
}
