//! A server of the settings.

use super::{error::SettingsError, values::Values};
use crate::Secret;
use std::{fmt, net::IpAddr};

/// The default of libpq on Debian, Red Hat and in the official images.
pub(super) const DEFAULT_SOCKET_DIRECTORY: &str = "/var/run/postgresql";
const DEFAULT_PORT: u16 = 5432;

/// The address of a server, and the password for it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// A host name, an IP address, or the directory of a socket.
    pub host: String,
    /// The address, instead of a lookup of the host name.
    pub hostaddr: Option<IpAddr>,
    pub port: u16,
    pub password: Option<Secret>,
}

/// `target_session_attrs`: the role that the server must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionAttrs {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

impl Target {
    /// Whether the host is a directory, or a socket in Linux' abstract namespace.
    pub fn is_socket(&self) -> bool {
        self.host.starts_with(['/', '@'])
    }

    /// The path of the socket; a path in the abstract namespace begins with a NUL character.
    pub fn socket(&self) -> String {
        let path = format!("{}/.s.PGSQL.{}", self.host, self.port);
        path.strip_prefix('@').map(|name| format!("\0{name}")).unwrap_or(path)
    }

    /// The host to look up in the password file.
    pub fn passfile_host(&self) -> &str {
        if self.host == DEFAULT_SOCKET_DIRECTORY { "localhost" } else { &self.host }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, .. } = self;
        match host {
            path if self.is_socket() => write!(f, "{path}/.s.PGSQL.{port}"),
            ipv6 if ipv6.contains(':') => write!(f, "[{ipv6}]:{port}"),
            name => write!(f, "{name}:{port}"),
        }
    }
}

/// Pairs the lists of hosts, addresses and ports. Passwords are set later, because they may depend on the
/// host.
pub(super) fn targets(values: &Values) -> Result<Vec<Target>, SettingsError> {
    let list =
        |keyword| values.filled(keyword).map(|list| list.split(',').map(str::trim).collect::<Vec<_>>());
    let (hosts, addresses) = (list("host"), list("hostaddr"));
    let count = hosts.as_ref().or(addresses.as_ref()).map_or(1, Vec::len);
    let hosts = hosts.unwrap_or_else(|| vec![""; count]);
    let addresses = addresses.unwrap_or_else(|| vec![""; count]);
    let mut ports = list("port").unwrap_or_else(|| vec![""]);
    if ports.len() == 1 {
        ports = vec![ports[0]; count];
    }
    for (keyword, others) in [("hostaddr", addresses.len()), ("port", ports.len())] {
        if others != count {
            return Err(SettingsError::Count { hosts: count, keyword, others });
        }
    }
    let target = |((host, address), port): ((&str, &str), &str)| {
        let hostaddr = match address {
            "" => None,
            address => Some(
                address
                    .parse::<IpAddr>()
                    .map_err(|_| SettingsError::Value { keyword: "hostaddr", expected: "an IP address" })?,
            ),
        };
        let host = match (host, hostaddr) {
            ("", None) => DEFAULT_SOCKET_DIRECTORY.to_owned(),
            ("", Some(address)) => address.to_string(),
            (host, _) => host.to_owned(),
        };
        let port = match port {
            "" => DEFAULT_PORT,
            port => port
                .parse()
                .ok()
                .filter(|&port| port != 0)
                .ok_or(SettingsError::Value { keyword: "port", expected: "a number from 1 to 65535" })?,
        };
        Ok(Target { host, hostaddr, port, password: None })
    };
    hosts.into_iter().zip(addresses).zip(ports).map(target).collect()
}
