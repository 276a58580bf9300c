//! A socket to an address, and its checks before the first byte.

use crate::settings::{Keepalive, Target};
use nix::unistd::{Uid, User};
use postgres_openssl::TlsStream;
use std::{io, net::SocketAddr};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_util::either::Either;

pub(crate) type Stream = Either<TcpStream, UnixStream>;
pub(crate) type Connection = tokio_postgres::Connection<Stream, TlsStream<Stream>>;

pub(super) enum Address {
    Socket(String),
    Tcp(SocketAddr),
}

/// The addresses of a target: one, or all of its host name.
pub(super) async fn addresses(target: &Target) -> io::Result<Vec<Address>> {
    if target.is_socket() {
        return Ok(vec![Address::Socket(target.socket())]);
    }
    if let Some(address) = target.hostaddr {
        return Ok(vec![Address::Tcp((address, target.port).into())]);
    }
    Ok(lookup_host((target.host.as_str(), target.port)).await?.map(Address::Tcp).collect())
}

impl Address {
    pub async fn connect(&self, keepalive: &Keepalive, peer: Option<&str>) -> io::Result<Stream> {
        match self {
            Self::Socket(path) => {
                let stream = UnixStream::connect(path).await?;
                if let Some(wanted) = peer {
                    check_peer(&stream, wanted)?;
                }
                Ok(Either::Right(stream))
            }
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                keepalive.set(&stream)?;
                Ok(Either::Left(stream))
            }
        }
    }
}

/// Fails unless the server runs as the operating system user of `requirepeer`.
fn check_peer(stream: &UnixStream, wanted: &str) -> io::Result<()> {
    let number = Uid::from_raw(stream.peer_cred()?.uid());
    let name = User::from_uid(number)?.map_or_else(|| number.to_string(), |user| user.name);
    if name == wanted {
        return Ok(());
    }
    let reason = format!("requirepeer is {wanted:?}, and the server runs as {name:?}");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}
