//! Which entries of a file set which keys.

use super::file::{Entry, Place};
use crate::cli_error::CliError;
use intcred::Secret;
use std::collections::BTreeSet;

/// A value to set.
pub struct Selected {
    pub place: Place,
    pub key: String,
    pub value: Secret,
}

/// Every entry, under its name as the key; or those that `map` names. An error repeats no name and no value:
/// either may be a misplaced secret.
pub fn select(mut entries: Vec<Entry>, map: &[(String, String)]) -> Result<Vec<Selected>, CliError> {
    let mut selected = Vec::new();
    if map.is_empty() {
        selected.extend(entries.into_iter().map(|Entry { place, name, value }| Selected {
            place,
            key: name,
            value,
        }));
    } else {
        for (number, (name, key)) in (1..).zip(map) {
            let at = entries.iter().position(|entry| entry.name == *name);
            let at = at.ok_or_else(|| {
                CliError::usage(
                    format!(
                        "the file does not have the name of --map number {number}, or --map names it twice"
                    ),
                    "names are spelled as in the file",
                )
            })?;
            let Entry { place, value, .. } = entries.swap_remove(at);
            selected.push(Selected { place, key: key.clone(), value });
        }
    }
    if selected.is_empty() {
        return Err(CliError::usage("the file has no values", "each line of a .env file is NAME=value"));
    }
    let mut keys = BTreeSet::new();
    for Selected { place, key, value } in &selected {
        let refused =
            |what: &str, remedy| CliError::Import { place: place.to_string(), what: what.to_owned(), remedy };
        if value.expose().is_empty() {
            return Err(refused("the value is empty", "remove the entry, or leave it out with --map"));
        }
        if value.expose().contains('\0') {
            return Err(refused(
                "the value has a NUL character",
                "encode the value, because Postgres cannot store NUL",
            ));
        }
        if !keys.insert(key) {
            return Err(refused("another entry sets the same key", "keep one of them, or choose with --map"));
        }
    }
    Ok(selected)
}
