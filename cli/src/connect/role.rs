//! Whether a server has the role that `target_session_attrs` demands.

use super::socket::Connection;
use crate::{settings::SessionAttrs, transaction::READ};
use std::{
    future::poll_fn,
    task::{Poll, ready},
};
use tokio_postgres::{Client, SimpleQueryMessage};

/// The properties that decide. Postgres reports both at login; a pooler may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Role {
    is_standby: bool,
    is_read_only: bool,
}

/// Fails with the reason if the server has another role.
pub(super) async fn check(
    session_attrs: SessionAttrs,
    client: &Client,
    connection: &mut Connection,
) -> Result<(), String> {
    if session_attrs == SessionAttrs::Any {
        return Ok(());
    }
    let role = match from_parameters(connection) {
        Some(role) => role,
        None => query(client, connection).await?,
    };
    role.mismatch(session_attrs).map_or(Ok(()), |mismatch| Err(mismatch.to_owned()))
}

fn from_parameters(connection: &Connection) -> Option<Role> {
    let is_on = |name| connection.parameter(name).map(|value| value == "on");
    Some(Role { is_standby: is_on("in_hot_standby")?, is_read_only: is_on("default_transaction_read_only")? })
}

async fn query(client: &Client, connection: &mut Connection) -> Result<Role, String> {
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
    let failed = || "the server did not report whether it is a standby".to_owned();
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
    fn mismatch(self, session_attrs: SessionAttrs) -> Option<&'static str> {
        match session_attrs {
            SessionAttrs::ReadWrite if self.is_standby || self.is_read_only => {
                Some("the server's sessions are read-only, and target_session_attrs is read-write")
            }
            SessionAttrs::ReadOnly if !self.is_standby && !self.is_read_only => {
                Some("the server's sessions are not read-only, and target_session_attrs is read-only")
            }
            SessionAttrs::Primary if self.is_standby => {
                Some("the server is a standby, and target_session_attrs is primary")
            }
            SessionAttrs::Standby if !self.is_standby => {
                Some("the server is no standby, and target_session_attrs is standby")
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
        for (session_attrs, primary, read_only_primary, standby) in [
            (SessionAttrs::Any, true, true, true),
            (SessionAttrs::ReadWrite, true, false, false),
            (SessionAttrs::ReadOnly, false, true, true),
            (SessionAttrs::Primary, true, true, false),
            (SessionAttrs::Standby, false, false, true),
        ] {
            let takes = |is_standby, is_read_only| {
                Role { is_standby, is_read_only }.mismatch(session_attrs).is_none()
            };
            let answers = [takes(false, false), takes(false, true), takes(true, false), takes(true, true)];
            assert_eq!(answers, [primary, read_only_primary, standby, standby], "{session_attrs:?}");
        }
    }
}
