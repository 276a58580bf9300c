//! `intcred keyring check`: whether a server, or a keyring for a dump, decrypts every credential.

use super::{
    dump::{self, Stored},
    file,
    reencrypt::unreadable,
};
use crate::{cli_error::CliError, context::Context, output::table};
use intcred::Unreadable;
use integration_credentials_core::{
    archive::Archive,
    envelope::{self, EnvelopeError, Place},
    keyring::Keyring,
};
use serde::Serialize;
use std::{collections::BTreeMap, path::Path};

/// So many credentials are named that the keyring should decrypt, and does not.
const MAX_NAMED: usize = 1000;

const REMEDY: &str = "Put the missing keys into the keyring, from a copy or by `intcred keyring restore`.";

/// Decrypts every credential in the server.
pub async fn server(context: &Context) -> Result<(), CliError> {
    let client = context.connect().await?;
    let found = client.check_all_credentials().await?;
    client.close().await;
    context.output.print(&found, |found| match found.as_slice() {
        [] => "the server decrypts every credential of the database".to_owned(),
        found => unreadable(found),
    })?;
    if found.is_empty() {
        return Ok(());
    }
    let what = format!("{} credential(s) cannot be decrypted", found.len());
    Err(CliError::Keys { what, remedy: REMEDY })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    dump: String,
    keys: Vec<Needed>,
    unreadable: Vec<Unreadable>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Needed {
    /// `None` for ciphertexts of an unknown form.
    id: Option<String>,
    /// How many credentials need it.
    rows: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<State>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    /// The keyring has it.
    Held,
    /// The archive has it.
    Retired,
    Missing,
}

/// Names the keys that a dump needs and, with a keyring, decrypts every credential of the dump.
pub fn dump(context: &Context, path: &Path, keyring: Option<&Path>) -> Result<(), CliError> {
    let keys =
        keyring.map(|path| Ok::<_, CliError>((file::read(path)?, file::read_archive(path)?))).transpose()?;
    let mut counts: BTreeMap<Option<String>, u64> = BTreeMap::new();
    let (mut failed, mut named) = (0_u64, Vec::new());
    dump::read(path, |stored| {
        *counts.entry(envelope::key_id(&stored.ciphertext).map(str::to_owned)).or_default() += 1;
        let error = keys.as_ref().and_then(|(keyring, _)| decrypt(keyring, &stored).err());
        // Credentials of a missing key are counted with that key.
        if let Some(error) = error.filter(|error| !matches!(error, EnvelopeError::UnknownKey(_))) {
            failed += 1;
            if named.len() < MAX_NAMED {
                named.push(stored.unreadable(&error));
            }
        }
    })?;
    let needed = counts.into_iter().map(|(id, rows)| {
        let state = keys.as_ref().map(|keys| state(keys, id.as_deref()));
        Needed { id, rows, state }
    });
    let report = Report { dump: path.display().to_string(), keys: needed.collect(), unreadable: named };
    context.output.print(&report, human)?;
    let absent = |key: &&Needed| key.id.is_some() && key.state.is_some_and(|state| state != State::Held);
    failed += report.keys.iter().filter(absent).map(|key| key.rows).sum::<u64>();
    if failed == 0 {
        return Ok(());
    }
    Err(CliError::Keys {
        what: format!("the keyring does not decrypt {failed} credential(s) of the dump"),
        remedy: REMEDY,
    })
}

fn decrypt(keyring: &Keyring, stored: &Stored) -> Result<(), EnvelopeError> {
    let place = Place { purpose: stored.purpose, org: &stored.org, key: &stored.key };
    envelope::decrypt(keyring, place, &stored.ciphertext).map(drop)
}

impl Stored {
    fn unreadable(self, error: &EnvelopeError) -> Unreadable {
        Unreadable {
            key_id: envelope::key_id(&self.ciphertext).map(str::to_owned),
            error: Some(error.to_string()),
            org: self.org,
            key: self.key,
            which: self.which.to_owned(),
        }
    }
}

fn state((keyring, archive): &(Keyring, Archive), id: Option<&str>) -> State {
    match id {
        Some(id) if keyring.find(id).is_some() => State::Held,
        Some(id) if archive.find(id).is_some() => State::Retired,
        _ => State::Missing,
    }
}

fn human(report: &Report) -> String {
    let rows = report.keys.iter().map(|key| {
        let state = match key.state {
            None => "needed",
            Some(State::Held) => "held",
            Some(State::Retired) => "missing, retired",
            Some(State::Missing) => "missing",
        };
        let id = key.id.clone().unwrap_or_else(|| "of an unknown form".to_owned());
        [id, state.to_owned(), key.rows.to_string()]
    });
    let keys = table(["KEY", "STATE", "CREDENTIALS"], rows);
    if report.unreadable.is_empty() { keys } else { format!("{keys}\n\n{}", unreadable(&report.unreadable)) }
}
