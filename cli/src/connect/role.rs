//! Whether a server is one that `target_session_attrs` asks for.

use super::socket::Connection;
use crate::{settings::Wanted, transaction::READ};
use std::{
    future::poll_fn,
    task::{Poll, ready},
};
use tokio_postgres::{Client, SimpleQueryMessage};

/// What of a server decides. Postgres tells both at login; a pooler need not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Role {
    is_standby: bool,
    is_read_only: bool,
}

/// Fails, in words, if it is another.
pub(super) async fn check(
    wanted: Wanted,
    client: &Client,
    connection: &mut Connection,
) -> Result<(), String> {
    if wanted == Wanted::Any {
        return Ok(());
    }
    let role = match told(connection) {
        Some(role) => role,
        None => ask(client, connection).await?,
    };
    role.fault(wanted).map_or(Ok(()), |fault| Err(fault.to_owned()))
}

fn told(connection: &Connection) -> Option<Role> {
    let is_on = |name| connection.parameter(name).map(|value| value == "on");
    Some(Role { is_standby: is_on("in_hot_standby")?, is_read_only: is_on("default_transaction_read_only")? })
}

async fn ask(client: &Client, connection: &mut Connection) -> Result<Role, String> {
    let sql =
        "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only')";
    let script = READ.script(sql);
    let until_it_ends = poll_fn(|context| {
        loop {
            match ready!(connection.poll_message(context)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(()),
            }
        }
    });
    let failed = || "it does not say whether it is a standby".to_owned();
    let answer = tokio::select! {
        answer = client.simple_query(&script) => answer.map_err(|_| failed())?,
        () = until_it_ends => return Err(failed()),
    };
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    match row.and_then(|row| Some((row.get(0)?, row.get(1)?))) {
        Some((recovery, read_only)) => {
            Ok(Role { is_standby: recovery == "t", is_read_only: read_only == "on" })
        }
        None => Err(failed()),
    }
}

impl Role {
    fn fault(self, wanted: Wanted) -> Option<&'static str> {
        match wanted {
            Wanted::ReadWrite if self.is_standby || self.is_read_only => {
                Some("its sessions are read-only, and target_session_attrs is read-write")
            }
            Wanted::ReadOnly if !self.is_standby && !self.is_read_only => {
                Some("its sessions are not read-only, and target_session_attrs is read-only")
            }
            Wanted::Primary if self.is_standby => {
                Some("it is a standby, and target_session_attrs is primary")
            }
            Wanted::Standby if !self.is_standby => {
                Some("it is no standby, and target_session_attrs is standby")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wish_takes_the_servers_that_libpq_takes() {
        for (wanted, primary, read_only_primary, standby) in [
            (Wanted::Any, true, true, true),
            (Wanted::ReadWrite, true, false, false),
            (Wanted::ReadOnly, false, true, true),
            (Wanted::Primary, true, true, false),
            (Wanted::Standby, false, false, true),
        ] {
            let takes = |is_standby, is_read_only| Role { is_standby, is_read_only }.fault(wanted).is_none();
            let answers = [takes(false, false), takes(false, true), takes(true, false), takes(true, true)];
            assert_eq!(answers, [primary, read_only_primary, standby, standby], "{wanted:?}");
        }
    }
}
