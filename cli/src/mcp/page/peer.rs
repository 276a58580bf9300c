//! Whether the other end of a connection on this machine belongs to the user of this process.

use std::net::SocketAddr;

/// The largest table of sockets that is read, in bytes: some hundred thousand sockets.
#[cfg(target_os = "linux")]
const MAX_TABLE: usize = 32 << 20;

/// Where the system cannot say, nobody is.
#[cfg(not(target_os = "linux"))]
pub const IS_KNOWN: bool = false;
/// Where the system cannot say, nobody is.
#[cfg(target_os = "linux")]
pub const IS_KNOWN: bool = true;

#[cfg(target_os = "linux")]
pub fn is_own_user(peer: SocketAddr, own: SocketAddr) -> bool {
    let table = std::fs::File::open("/proc/net/tcp")
        .and_then(|file| intcred::internal::read_bounded(file, MAX_TABLE));
    let Ok(table) = table else { return false };
    let own_user = nix::unistd::geteuid().as_raw();
    let table = String::from_utf8_lossy(&table);
    user_of(&table, peer, own) == Some(own_user)
}

#[cfg(not(target_os = "linux"))]
pub fn is_own_user(_: SocketAddr, _: SocketAddr) -> bool {
    false
}

/// The user of the established socket from `local` to `remote`, by the kernel's table.
#[cfg(target_os = "linux")]
fn user_of(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let (local, remote) = (written(local)?, written(remote)?);
    table.lines().skip(1).find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let is_it = columns.next()? == local && columns.next()? == remote && columns.next()? == "01";
        // After the queues, the timer and the retransmissions.
        is_it.then(|| columns.nth(3)?.parse().ok()).flatten()
    })
}

/// As the kernel writes an IPv4 address: in the order of this machine's bytes.
#[cfg(target_os = "linux")]
fn written(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_user_of_a_connection_is_in_the_kernels_table() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let client = TcpStream::connect(own).unwrap();
        let (_server, peer) = listener.accept().unwrap();
        assert!(is_own_user(peer, own));
        assert!(!is_own_user(own, own), "no such connection");
        drop(client);
    }

    #[test]
    fn another_user_or_state_is_not_taken() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 1 1\n   \
                     1: 0100007F:1F91 0100007F:C350 06 00000000:00000000 00:00000000 00000000  1000        0 1 1\n";
        if cfg!(target_endian = "big") {
            return;
        }
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(user_of(table, address(8080), address(50000)), Some(1000));
        assert_eq!(user_of(table, address(50000), address(8080)), None);
        assert_eq!(user_of(table, address(8081), address(50000)), None, "a connection that ends");
    }
}
