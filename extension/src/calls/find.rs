//! The calls that look at every stored value: which is this one, and which cannot be decrypted.

use super::caller::Role;
use super::set;
use super::stored::{TABLE, ciphertext, is_of, keeps_previous};
use crate::audit;
use crate::metering::Metering;
use crate::pg::call::{Answer, Call, VOID};
use crate::pg::index_scan::{self, Row};
use crate::pg::text::{self, Raw};
use crate::pg::tuplestore::Rows;
use crate::{keyring, redaction, settings};
use integration_credentials_core::envelope::{self, Place, Purpose};
use integration_credentials_core::{limits, tool};
use pgrx::IntoDatum;
use serde_json::json;

/// The integration key that a value is sealed for when it is sought: no integration has it.
const ANY_KEY: &str = "";
/// The target of the audit row.
const ALL: &str = "*";

/// A stored value.
struct Value {
    org: String,
    key: String,
    which: &'static str,
    revision: Option<i64>,
    ciphertext: Vec<u8>,
}

impl Value {
    fn place(&self) -> Place<'_> {
        Place { purpose: Purpose::Credential, org: &self.org, key: &self.key }
    }
}

/// `find_integration_credentials(sealed, actor)`
pub fn call_find(call: &Call) -> Answer {
    let metering = Metering::start(&tool::FIND);
    let org = settings::current_org(call)?;
    let given = call.text(1).map(|actor| limits::actor(Some(actor))).transpose()?;
    let actor = given.map_or_else(|| Role::session().name(), str::to_owned);
    let value = set::open(call, 0, &org, ANY_KEY)?;
    settings::check_value(Some(&value))?;
    redaction::remember(&value);
    let mut rows = Rows::<4>::of(call);
    let mut found = 0;
    let is_operator = call.caller.role.is_superuser();
    visit(Some(&org).filter(|_| !is_operator), |stored| {
        if is_of(stored.place(), &stored.ciphertext, &value) {
            found += 1;
            rows.push([
                stored.org.into_datum(),
                stored.key.into_datum(),
                stored.which.into_datum(),
                stored.revision.into_datum(),
            ]);
        }
    });
    audit::write(call, &org, &actor, "find_integration_credentials", ALL, &json!({"found": found}));
    metering.finish(&org, &actor, None, json!({"sealed": null, "actor": actor}));
    Ok(VOID)
}

/// `check_credentials()`
pub fn call_check(call: &Call) -> Answer {
    let org = settings::current_org(call)?;
    // Without a keyring no value can be decrypted: the call fails once, instead of once for each value.
    keyring::sealing_key()?;
    let mut rows = Rows::<4>::of(call);
    visit(Some(&org), |stored| {
        if let Err(refusal) = keyring::decrypt(stored.place(), &stored.ciphertext) {
            let key_id = envelope::key_id(&stored.ciphertext).map(str::to_owned);
            rows.push([
                stored.key.into_datum(),
                stored.which.into_datum(),
                key_id.into_datum(),
                refusal.message.into_datum(),
            ]);
        }
    });
    Ok(VOID)
}

/// Visits the values of an org, or of all orgs, that a call could answer, one at a time.
fn visit(of: Option<&String>, mut visit: impl FnMut(Value)) {
    let name = |row: &Row, column| row.get(column).map(|Raw(bytes)| text::lossy(&bytes)).unwrap_or_default();
    index_scan::visit(TABLE, |row| {
        let org = name(row, c"org_slug");
        if of.is_some_and(|of| *of != org) {
            return;
        }
        let key = name(row, c"integration_key");
        for (which, column, revision) in [
            ("current", c"ciphertext", row.get(c"revision")),
            ("previous", c"previous_ciphertext", row.get(c"previous_revision")),
            ("pending", c"pending_ciphertext", None),
        ] {
            if which == "previous" && !keeps_previous(row) {
                continue;
            }
            if let Some(ciphertext) = ciphertext(row, column) {
                visit(Value { org: org.clone(), key: key.clone(), which, revision, ciphertext });
            }
        }
    });
}
