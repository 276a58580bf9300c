//! Whether a pooler between client and server drops notifications.
//!
//! In transaction mode, a pooler lends a backend for one transaction, and drops notifications that arrive at
//! a backend between two loans. No statement fails, and no notification arrives. A probe from the same
//! session proves nothing, because it arrives within the transaction. So another session sends the probe, as
//! an admin's would. Only where there is a pooler, because each probe wakes every listener of the database.

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

/// Whether a pooler is in between: the backend that answers is not the one named at login, where poolers
/// invent an id.
pub(crate) async fn is_between(session: &Session) -> Result<bool, Error> {
    let answering: i32 = column(&session.row(READ, "SELECT pg_catalog.pg_backend_pid()", &[]).await?, 0)?;
    Ok(login_process(session).await != Some(answering))
}

/// Fails with [`Error::NotificationsLost`] unless a NOTIFY of another session arrives at this one, in
/// `probes`.
pub(super) async fn check(
    settings: &Settings,
    session: &Session,
    probes: &mut Receiver<()>,
    limit: Duration,
) -> Result<(), Error> {
    let number = getrandom::u64()
        .map_err(|_| Error::Unexpected("the operating system gave no random bytes".to_owned()))?;
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
        // Not closed: the session may wait for an answer that never comes.
        other.abort();
        return notified;
    }
    let arrived = tokio::select! {
        arrived = within(limit, probes.recv()) => matches!(arrived, Ok(Some(()))),
        // The other session did not LISTEN, so the pooler has lent it the backend that did.
        Some(()) = strays.recv() => false,
    };
    other.close().await;
    if !arrived {
        return Err(Error::NotificationsLost);
    }
    within(limit, session.batch(READ, &format!("UNLISTEN {channel_name}"))).await?
}

/// The process id named at login. tokio-postgres shows the id only in a cancel request, so this writes a cancel
/// request to memory.
async fn login_process(session: &Session) -> Option<i32> {
    let wire = Wire::default();
    session.cancel_token().cancel_query_raw(wire.clone(), AsIs).await.ok()?;
    let sent = wire.0.lock().unwrap_or_else(PoisonError::into_inner);
    // A cancel request ends with the process id and the secret key, of four bytes each.
    let process = sent.get(sent.len().checked_sub(8)?..)?.first_chunk()?;
    Some(i32::from_be_bytes(*process))
}

/// Keeps the bytes written, and answers a request for TLS with yes.
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

/// No encryption, because bytes written to [`Wire`] stay in this process.
struct AsIs;

impl TlsConnect<Wire> for AsIs {
    type Stream = Wire;
    type Error = Infallible;
    type Future = Ready<Result<Wire, Infallible>>;

    fn connect(self, stream: Wire) -> Self::Future {
        ready(Ok(stream))
    }
}
