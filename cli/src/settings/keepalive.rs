//! TCP keepalive, by which the operating system detects a dead connection.

use super::{error::SettingsError, values::Values};
use socket2::{SockRef, TcpKeepalive};
use std::{io, time::Duration};
use tokio::net::TcpStream;

/// Linux waits two hours by default. A listener is idle between rotations.
const IDLE: Duration = Duration::from_mins(1);

#[derive(Clone, Debug)]
pub(crate) struct Keepalive {
    probes: Option<TcpKeepalive>,
    user_timeout: Option<Duration>,
}

pub(super) fn keepalive(values: &Values) -> Result<Keepalive, SettingsError> {
    let filled = |duration: Option<Duration>| duration.filter(|duration| !duration.is_zero());
    let mut probes =
        TcpKeepalive::new().with_time(filled(values.seconds("keepalives_idle")?).unwrap_or(IDLE));
    if let Some(interval) = filled(values.seconds("keepalives_interval")?) {
        probes = probes.with_interval(interval);
    }
    if let Some(count) = values
        .number("keepalives_count")?
        .and_then(|count| u32::try_from(count).ok())
        .filter(|&count| count != 0)
    {
        probes = probes.with_retries(count);
    }
    let user_timeout = values.number("tcp_user_timeout")?.and_then(|timeout| u64::try_from(timeout).ok());
    Ok(Keepalive {
        probes: (values.number("keepalives")? != Some(0)).then_some(probes),
        user_timeout: filled(user_timeout.map(Duration::from_millis)),
    })
}

impl Keepalive {
    pub fn set(&self, stream: &TcpStream) -> io::Result<()> {
        let socket = SockRef::from(stream);
        if let Some(probes) = &self.probes {
            socket.set_tcp_keepalive(probes)?;
        }
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(self.user_timeout)?;
        Ok(())
    }
}
