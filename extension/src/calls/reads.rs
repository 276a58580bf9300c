//! `credential_reads(key)`: who has read which credential of the org.

use crate::pg::call::{Answer, Call, VOID};
use crate::pg::tuplestore::Rows;
use crate::{reads, settings};
use integration_credentials_core::limits;
use pgrx::IntoDatum;

/// Answers the call: all keys of the org, or one. On a standby, the reads on that server are among them.
pub fn call(call: &Call) -> Answer {
    let key = call.text(0).map(|key| limits::key(Some(key))).transpose()?;
    let org = settings::current_org(call)?;
    let mut rows = Rows::<5>::of(call);
    for read in reads::of_org(&org, key) {
        rows.push([
            read.key.into_datum(),
            read.role.into_datum(),
            read.revision.into_datum(),
            read.at.into_datum(),
            read.reads.into_datum(),
        ]);
    }
    Ok(VOID)
}
