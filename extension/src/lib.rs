//! Third-party credentials inside Postgres: validated, encrypted, audited and announced in one transaction.
//!
//! The SQL that a user sees is written out in `sql/`; the functions it declares are listed at the end of this file,
//! each beside the Rust that answers it.
//!
//! | module | concept |
//! | --- | --- |
//! | `set`, `remove`, `read` | the calls about one credential, sealed or not |
//! | `register` | the calls about the catalog, and about the functions it names |
//! | `catalog` | finding an entry |
//! | `validate`, `sync` | what runs before and after a credential is saved |
//! | `sandbox`, `routine` | running somebody else's function on a secret; finding it |
//! | `cancel` | whether the statement is cancelled meanwhile |
//! | `cursors` | keeping the caller's cursors from it |
//! | `silence` | keeping what it prints from the log and the client |
//! | `journal`, `announce` | audit and metering rows; notifications |
//! | `keys`, `keyring_source` | the keyring, as this session knows it; the file or command that it comes from |
//! | `redaction` | keeping secrets out of what the server logs and shows |
//! | `hooks` | where Postgres calls us besides our functions |
//! | `settings` | the settings, and the org of the session |
//! | `statement` | SQL that is planned once a session |
//! | `lookup`, `append` | reading one row by its key; adding one to a log |
//! | `table` | a table of ours by its name |
//! | `turn`, `lock` | waiting in line for a credential; locks of our own |
//! | `text` | a text of Postgres as Rust's |
//! | `document` | a JSON document as Postgres keeps it |
//! | `memory` | memory for Rust when the system has none left |
//! | `timestamp` | a moment, as the results write it |
//! | `rows` | a result of many rows, which stays in memory |
//! | `caller` | which role called, and running as the owner |
//! | `boundary` | how a call comes in from Postgres, and how a result or an error goes out |

use crate::caller::as_owner;
use pgrx::prelude::*;

mod announce;
mod append;
mod boundary;
mod caller;
mod cancel;
mod catalog;
mod cursors;
mod document;
mod hooks;
mod journal;
mod keyring_source;
mod keys;
mod lock;
mod lookup;
mod memory;
mod read;
mod redaction;
mod register;
mod remove;
mod routine;
mod rows;
mod sandbox;
mod set;
mod settings;
mod silence;
mod statement;
mod sync;
mod table;
mod text;
mod timestamp;
mod turn;
mod validate;

pgrx::pg_module_magic!();

extension_sql_file!("../../sql/tables.sql", name = "tables", bootstrap);
extension_sql_file!("../../sql/functions.sql", name = "functions", requires = ["tables"]);
extension_sql_file!("../../sql/catalog.sql", name = "catalog", requires = ["functions"]);
extension_sql_file!("../../sql/replication.sql", name = "replication", requires = ["catalog"]);
extension_sql_file!("../../sql/grants.sql", name = "grants", finalize);

/// Called by Postgres when it loads the library.
#[allow(non_snake_case)]
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    // SAFETY: a flag of the server, set before this is called.
    if unsafe { pg_sys::process_shared_preload_libraries_in_progress } {
        settings::define();
        hooks::install();
        redaction::install();
        announce::install();
        sandbox::install();
    }
}

boundary::sql_functions! {
    catalog_changed => catalog::known::call_changed,
    announce_replicated => announce::call_announce_replicated,
    current_org => settings::call_current_org,
    admin_set_integration_credentials => |call| as_owner(call, set::call),
    admin_set_integration_credentials_sealed => |call| as_owner(call, set::call_sealed),
    sealing_key => set::call_sealing_key,
    admin_remove_integration_credentials => |call| as_owner(call, remove::call),
    admin_register_integration => |call| as_owner(call, register::call_register),
    admin_unregister_integration => |call| as_owner(call, register::call_unregister),
    admin_set_integration_enabled => |call| as_owner(call, register::call_set_enabled),
    record_tool_failure => journal::call_record_tool_failure,
    get_integration_credentials => read::call_get,
    get_integration_credentials_with_revision => read::call_get_with_revision,
    get_all_integration_credentials => |call| as_owner(call, read::call_get_all),
    get_aggregator_credentials => read::call_get_aggregator,
    register_validator => register::call_register_validator,
    register_sync_handler => register::call_register_sync_handler,
    sync_aggregator_credentials => sync::call_aggregator,
}
