//! Third-party credentials inside Postgres: validated, encrypted, audited and announced in one transaction.
//!
//! `sql/` declares the SQL functions. The end of this file lists each of them beside the Rust function behind
//! it.
//!
//! | module | concept |
//! | --- | --- |
//! | `calls` | the SQL functions, one concept a file |
//! | `catalog` | finding an entry of the catalog, and caching it |
//! | `user_functions` | running a validator or sync handler on a secret, in a sandbox |
//! | `keyring` | the keyring of this session, and the file or command that holds it |
//! | `audit`, `metering` | the audit row of each change, and the signed blocks of rows; the metering row of each call |
//! | `announce` | notifications |
//! | `maintenance` | background workers for jobs that are off the path of a call |
//! | `reads` | the read ledger: which role has read which credential last |
//! | `redaction` | keeping secrets out of what the server logs and shows |
//! | `hooks` | the hooks of Postgres that the library uses |
//! | `progress` | how far the runs of `reencrypt` are, in shared memory |
//! | `settings` | the settings, and the org of the session |
//! | `memory` | Rust's allocator, with a reserve for when the system has no memory left |
//! | `pg` | Postgres' own functions, in Rust |

use crate::calls::caller::as_owner;
use crate::calls::{
    consumers, find, functions, keys, pending, previous, read, reencrypt, remove, rotation_status, set,
};
use crate::pg::{call, session};
use crate::user_functions::{silence, sync_handler};
use pgrx::prelude::*;

mod announce;
mod audit;
mod calls;
mod catalog;
mod hooks;
mod keyring;
mod maintenance;
mod memory;
mod metering;
mod pg;
mod progress;
mod reads;
mod redaction;
mod settings;
mod user_functions;

pgrx::pg_module_magic!();

extension_sql_file!("../../sql/tables.sql", name = "tables", bootstrap);
extension_sql_file!("../../sql/functions.sql", name = "functions", requires = ["tables"]);
extension_sql_file!("../../sql/catalog.sql", name = "catalog", requires = ["functions"]);
extension_sql_file!("../../sql/replication.sql", name = "replication", requires = ["catalog"]);
extension_sql_file!("../../sql/comments.sql", name = "comments", requires = ["replication"]);
extension_sql_file!("../../sql/grants.sql", name = "grants", finalize);

/// Called by Postgres when it loads the library.
#[allow(non_snake_case)]
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    if session::is_preloading() {
        settings::define();
        hooks::install();
        announce::install();
        silence::reserve_descriptors();
    }
}

call::sql_functions! {
    catalog_changed => catalog::cache::call_changed,
    announce_replicated => announce::call_announce_replicated,
    current_org => settings::call_current_org,
    admin_set_integration_credentials => |call| as_owner(call, set::call),
    admin_set_integration_credentials_sealed => |call| as_owner(call, set::call_sealed),
    sealing_key => set::call_sealing_key,
    admin_promote_integration_credentials => |call| as_owner(call, pending::call_promote),
    admin_discard_integration_credentials => |call| as_owner(call, pending::call_discard),
    admin_rollback_integration_credentials => |call| as_owner(call, previous::call_rollback),
    admin_retire_integration_credentials => |call| as_owner(call, previous::call_retire),
    admin_remove_integration_credentials => |call| as_owner(call, remove::call),
    find_integration_credentials => |call| as_owner(call, find::call_find),
    admin_register_integration => |call| as_owner(call, calls::catalog::call_register),
    admin_unregister_integration => |call| as_owner(call, calls::catalog::call_unregister),
    admin_set_integration_enabled => |call| as_owner(call, calls::catalog::call_set_enabled),
    admin_set_integration_keep_previous => |call| as_owner(call, calls::catalog::call_set_keep_previous),
    record_tool_failure => metering::call_record_tool_failure,
    get_integration_credentials => read::call_get,
    get_integration_credentials_with_revision => read::call_get_with_revision,
    get_all_integration_credentials => |call| as_owner(call, read::call_get_all),
    get_integration_credentials_which => read::call_get_which,
    get_valid_integration_credentials => read::call_get_valid,
    report_held_revisions => |call| as_owner(call, consumers::call_report),
    get_aggregator_credentials => read::call_get_aggregator,
    list_all_integrations => calls::list::call,
    list_integrations_of => calls::list::call_of,
    audit_prune => audit::prune::call,
    audit_seal => |_| Ok(audit::ask_to_seal()),
    credential_reads => |call| as_owner(call, calls::reads::call),
    rotation_status => |call| as_owner(call, rotation_status::call),
    check_credentials => |call| as_owner(call, find::call_check),
    register_validator => functions::call_register_validator,
    register_sync_handler => functions::call_register_sync_handler,
    sync_aggregator_credentials => sync_handler::call_aggregator,
    keyring_status => keys::call_keyring_status,
    check_all_credentials => keys::call_check_all,
    reencrypt_batch => reencrypt::call,
    reencrypt_runs => progress::call,
}
