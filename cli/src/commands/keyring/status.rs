//! `intcred keyring status`: the keys of the file, those of the servers, and what the databases need.

use super::{
    file,
    servers::{self, Server},
};
use crate::{cli_error::CliError, context::Context, output::table};
use integration_credentials_core::seal::fingerprint;
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    file: Option<String>,
    keys: Vec<KeyStatus>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyStatus {
    /// `None` for ciphertexts of an unknown form.
    id: Option<String>,
    state: State,
    rows: i64,
    /// The servers that lack the key, or have another key of its id.
    lacking: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    /// Encrypts.
    Writing,
    /// Only decrypts, and rows need it.
    Needed,
    /// Newer than the key that encrypts, and not used yet.
    Added,
    /// Only decrypts, and no row needs it.
    Unneeded,
    /// Rows need it, and the keyring lacks it. The archive has it.
    Retired,
    /// Rows need it, and the keyring lacks it.
    Missing,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Writing => "writing",
            Self::Needed => "needed",
            Self::Added => "added",
            Self::Unneeded => "unneeded",
            Self::Retired => "missing, retired",
            Self::Missing => "missing",
        }
    }

    const fn is_missing(self) -> bool {
        matches!(self, Self::Retired | Self::Missing)
    }
}

/// A key of the file or, without one, of the first server.
struct Known {
    id: String,
    fingerprint: String,
    writes: bool,
}

pub async fn run(context: &Context, file: Option<&Path>) -> Result<(), CliError> {
    let known = file.map(of_file).transpose()?;
    let archive = file.map(file::read_archive).transpose()?.unwrap_or_default();
    let servers = servers::ask(context).await?;
    let known = known.unwrap_or_else(|| of_server(&servers));
    let mut usage: Vec<(Option<String>, i64)> = Vec::new();
    // A standby has what the primary has, or will have it.
    if let Some(server) = servers.first() {
        for key in server.needs(false).await?.into_iter().flat_map(|needs| needs.keys) {
            match usage.iter_mut().find(|(id, _)| *id == key.key_id) {
                Some((_, rows)) => *rows += key.total(),
                None => usage.push((key.key_id.clone(), key.total())),
            }
        }
    }
    let writing = known.iter().position(|key| key.writes);
    let mut keys: Vec<_> = known
        .iter()
        .enumerate()
        .map(|(index, key)| {
            let rows = usage.iter().find(|(id, _)| id.as_ref() == Some(&key.id)).map_or(0, |(_, rows)| *rows);
            let state = match rows {
                _ if key.writes => State::Writing,
                1.. => State::Needed,
                _ if writing.is_some_and(|writing| index > writing) => State::Added,
                _ => State::Unneeded,
            };
            let lacks = |server: &&Server| {
                server.find(&key.id).is_none_or(|found| found.fingerprint != key.fingerprint)
            };
            let lacking = servers.iter().filter(lacks).map(|server| server.name.clone()).collect();
            KeyStatus { id: Some(key.id.clone()), state, rows, lacking }
        })
        .collect();
    for (id, rows) in usage {
        if id.as_ref().is_none_or(|id| !known.iter().any(|key| key.id == *id)) {
            let is_retired = id.as_ref().is_some_and(|id| archive.find(id).is_some());
            let state = if is_retired { State::Retired } else { State::Missing };
            let lacks = |server: &&Server| id.as_ref().is_none_or(|id| server.find(id).is_none());
            let lacking = servers.iter().filter(lacks).map(|server| server.name.clone()).collect();
            keys.push(KeyStatus { id, state, rows, lacking });
        }
    }
    let missing: i64 = keys.iter().filter(|key| key.state.is_missing()).map(|key| key.rows).sum();
    let status = Status { file: file.map(|file| file.display().to_string()), keys };
    context.output.print(&status, human)?;
    if missing == 0 {
        return Ok(());
    }
    Err(CliError::Keys {
        what: format!("{missing} credential(s) need a key that the keyring lacks"),
        remedy: "Put the key back, from a copy of the keyring or by `intcred keyring restore`, and reload the servers.",
    })
}

fn of_file(path: &Path) -> Result<Vec<Known>, CliError> {
    let keyring = file::read(path)?;
    let known = keyring.keys().map(|key| Known {
        id: key.id().to_owned(),
        fingerprint: fingerprint(key),
        writes: key.id() == keyring.primary_id(),
    });
    Ok(known.collect())
}

fn of_server(servers: &[Server]) -> Vec<Known> {
    let keys = servers.first().map(|server| server.keys.as_slice()).unwrap_or_default();
    let known = keys.iter().map(|key| Known {
        id: key.key_id.clone(),
        fingerprint: key.fingerprint.clone(),
        writes: key.writes,
    });
    known.collect()
}

fn human(status: &Status) -> String {
    let rows = status.keys.iter().map(|key| {
        [
            key.id.clone().unwrap_or_else(|| "of an unknown form".to_owned()),
            key.state.word().to_owned(),
            key.rows.to_string(),
            if key.lacking.is_empty() { "-".to_owned() } else { key.lacking.join(", ") },
        ]
    });
    table(["KEY", "STATE", "CREDENTIALS", "LACKING ON"], rows)
}
