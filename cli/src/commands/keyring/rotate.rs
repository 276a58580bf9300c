//! `intcred keyring use`, `retire` and `restore`.

use super::{
    file::{Locked, malformed},
    print, servers,
};
use crate::{cli_error::CliError, context::Context};
use intcred::Timestamp;
use integration_credentials_core::{keyring::KeyringError, seal::fingerprint};
use std::path::Path;

/// Makes a key the one that encrypts, if every server has that key: a server without it could not decrypt what
/// another has encrypted.
pub async fn use_key(context: &Context, file: &Path, id: &str) -> Result<(), CliError> {
    let mut locked = Locked::open(file)?;
    locked.keyring.use_key(id).map_err(malformed(file))?;
    let own = fingerprint(locked.keyring.primary());
    for server in servers::ask(context).await? {
        let problem = match server.find(id) {
            None => "does not have",
            Some(key) if key.fingerprint != own => "has another key with the id of",
            Some(_) => continue,
        };
        return Err(CliError::Keys {
            what: format!("{} {problem} key {id}; nothing was changed", server.name),
            remedy: "Ship this file to the server and reload its configuration, then run the command again.",
        });
    }
    locked.write()?;
    print(context, file, &locked.keyring, "; ship the file to every server and reload their configurations")
}

/// Moves a key to the archive, if no row of any database on any server needs it.
pub async fn retire(context: &Context, file: &Path, id: &str) -> Result<(), CliError> {
    let mut locked = Locked::open(file)?;
    let mut archive = locked.archive()?;
    let key = locked.keyring.remove(id).map_err(|error| match (error, archive.find(id)) {
        (KeyringError::Unknown(_), Some(_)) => {
            CliError::usage(format!("key {id} is retired already"), "`intcred keyring restore` moves it back")
        }
        (error, _) => malformed(file)(error),
    })?;
    for server in servers::ask(context).await? {
        let name = &server.name;
        if server.find(id).is_some_and(|key| key.writes) {
            return Err(CliError::Keys {
                what: format!("{name} still encrypts with key {id}; nothing was changed"),
                remedy: "Ship this file to the server and reload its configuration, then run the command again.",
            });
        }
        // A session that has cached an older keyring would still encrypt with the key, and no later one could read that.
        server.reload().await?;
        for needs in server.needs(true).await? {
            let rows = needs.keys.iter().find(|usage| usage.key_id.as_deref() == Some(id));
            if let Some(rows) = rows.map(intcred::KeyUsage::total).filter(|&rows| rows > 0) {
                let database = needs.database;
                return Err(CliError::Keys {
                    what: format!(
                        "{rows} credential(s) of database {database} on {name} need key {id}; nothing was changed"
                    ),
                    remedy: "`intcred keyring reencrypt`, in that database, moves them to the key that encrypts.",
                });
            }
        }
    }
    archive.add(key, Timestamp::now().to_string()).map_err(malformed(file))?;
    // First the archive: whenever this is interrupted, one of the two files has the key.
    locked.write_archive(&archive)?;
    locked.write()?;
    print(context, file, &locked.keyring, &format!("; {id} is in {}.retired", file.display()))
}

/// Moves a key back from the archive. The key only decrypts.
pub fn restore(context: &Context, file: &Path, id: &str) -> Result<(), CliError> {
    let mut locked = Locked::open(file)?;
    let mut archive = locked.archive()?;
    let Some(key) = archive.remove(id) else {
        return Err(CliError::usage(
            "no retired key has this id",
            "`intcred keyring status` shows the keys, and FILE.retired has the ids of the retired ones",
        ));
    };
    locked.keyring.insert(key).map_err(malformed(file))?;
    // First the keyring, for the same reason.
    locked.write()?;
    locked.write_archive(&archive)?;
    print(context, file, &locked.keyring, &format!("; {id} only decrypts"))
}
