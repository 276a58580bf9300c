//! Appends a row to a log without an INSERT, because starting a query costs more than the row.
//!
//! Only while the table is as sql/tables.sql made it. With a trigger that fires, a rule, a policy, a constraint or
//! another column, a plain INSERT runs instead. The executor maintains indexes of any kind in both cases.

use super::ffi::nextval_internal;
use super::prepared::{Statement, execute};
use super::relation::{self, is_named};
use super::version;
use pgrx::datum::DatumWithOid;
use pgrx::{IntoDatum, pg_sys};
use std::ffi::CStr;
use std::ptr;
use std::thread::LocalKey;

/// A table with an identity column `id` and a column `created_at`.
pub struct Log {
    /// Its name.
    pub table: &'static CStr,
    /// The name of the sequence of its ids.
    pub ids: &'static CStr,
    /// The INSERT, with the other columns as parameters in the order of `append`.
    pub insert: &'static LocalKey<Statement>,
    /// A column that depends on the row's identity, and the INSERT with `id`, `created_at`, this column and the
    /// others. A table of an earlier version of the extension lacks the column.
    pub insert_with: Option<(&'static CStr, &'static LocalKey<Statement>)>,
}

/// The columns of a row that its log gives it.
#[derive(Clone, Copy)]
pub struct Identity {
    /// `id`
    pub id: i64,
    /// `created_at`, in microseconds since 2000.
    pub created_at: pg_sys::TimestampTz,
}

/// The value of a column.
#[derive(Clone, Copy)]
pub struct Column {
    name: &'static CStr,
    type_oid: pg_sys::Oid,
    /// `None` is NULL.
    value: Option<pg_sys::Datum>,
}

/// A column and its value.
pub fn column<T: IntoDatum>(name: &'static CStr, value: T) -> Column {
    Column { name, type_oid: T::type_oid(), value: value.into_datum() }
}

/// Adds a row.
pub fn append(log: &Log, columns: &[Column]) {
    append_with(log, columns, |_| None);
}

/// Adds a row with the column of `insert_with`, where the table has that.
pub fn append_with(log: &Log, columns: &[Column], depending: impl FnOnce(Identity) -> Option<Column>) {
    let ids = relation::oid(log.ids);
    let (mut row, mut statement) = (Vec::with_capacity(columns.len() + 3), log.insert);
    // SAFETY: in a transaction that may write. Postgres closes open relations after an error, and keeps the
    // lock to the end of the transaction, as for an INSERT. nextval may raise an error, so it is called under
    // a guard.
    let is_appended = unsafe {
        let relation = relation::open(log.table, pg_sys::RowExclusiveLock);
        let is_plain = is_plain(&*relation);
        let has =
            |name: &CStr| relation::columns((*relation).rd_att).iter().any(|column| is_named(column, name));
        let with = log.insert_with.filter(|(name, _)| has(name));
        let mut is_appended = false;
        if ids != pg_sys::InvalidOid && (is_plain || with.is_some()) {
            let id = pg_sys::ffi::pg_guard_ffi_boundary(|| nextval_internal(ids, false));
            let created_at = pg_sys::GetCurrentTimestamp();
            let moment = Column {
                name: c"created_at",
                type_oid: pg_sys::TIMESTAMPTZOID,
                value: Some(created_at.into()),
            };
            row.extend([column(c"id", id), moment]);
            if let Some((_, insert)) = with
                && let Some(depending) = depending(Identity { id, created_at })
            {
                row.push(depending);
                statement = insert;
            }
            row.extend_from_slice(columns);
            is_appended = is_plain && insert(relation, &row);
        }
        relation::close(relation);
        is_appended
    };
    if !is_appended {
        // The plain INSERT draws an id of its own.
        let row = if ptr::eq(statement, log.insert) { columns } else { row.as_slice() };
        let argument = |column: &Column| match column.value {
            // SAFETY: the type is that of the value.
            Some(value) => unsafe { DatumWithOid::new(value, column.type_oid) },
            None => DatumWithOid::null_oid(column.type_oid),
        };
        execute(statement, &row.iter().map(argument).collect::<Vec<_>>());
    }
}

/// Whether the table has only columns and indexes: no trigger that fires, no rule, policy, constraint or partition.
///
/// # Safety
/// The table is open.
pub unsafe fn is_plain(relation: &pg_sys::RelationData) -> bool {
    // SAFETY: an open relation, whose parts are valid or NULL.
    unsafe {
        let class = &*relation.rd_rel;
        let constraints = (*relation.rd_att).constr.as_ref();
        class.relkind.cast_unsigned() == pg_sys::RELKIND_RELATION
            && !class.relispartition
            && !fires_triggers(relation.trigdesc)
            && relation.rd_rules.is_null()
            && relation.rd_rsdesc.is_null()
            && constraints
                .is_none_or(|constraints| constraints.num_check == 0 && !constraints.has_generated_stored)
    }
}

/// Whether one of the triggers of a table fires in this session.
unsafe fn fires_triggers(triggers: *const pg_sys::TriggerDesc) -> bool {
    // SAFETY: the triggers of an open table, or NULL.
    unsafe {
        let Some(triggers) = triggers.as_ref() else { return false };
        let count = usize::try_from(triggers.numtriggers).unwrap_or(0);
        let is_replica =
            pg_sys::SessionReplicationRole == pg_sys::SESSION_REPLICATION_ROLE_REPLICA.cast_signed();
        let not_here =
            if is_replica { pg_sys::TRIGGER_FIRES_ON_ORIGIN } else { pg_sys::TRIGGER_FIRES_ON_REPLICA };
        let triggers = std::slice::from_raw_parts(triggers.triggers, count);
        triggers
            .iter()
            .any(|trigger| ![not_here, pg_sys::TRIGGER_DISABLED].contains(&trigger.tgenabled.cast_unsigned()))
    }
}

/// Inserts a row, if the table has exactly these columns.
unsafe fn insert(relation: pg_sys::Relation, columns: &[Column]) -> bool {
    // SAFETY: a relation that is open for writing. The slot was made for the table, so it has a value for
    // each attribute.
    unsafe {
        let slot = pg_sys::table_slot_create(relation, ptr::null_mut());
        let is_complete = fill(&*slot, (*relation).rd_att, columns);
        if is_complete {
            pg_sys::ExecStoreVirtualTuple(slot);
            let state = pg_sys::CreateExecutorState();
            let mut target =
                pg_sys::ResultRelInfo { type_: pg_sys::NodeTag::T_ResultRelInfo, ..Default::default() };
            pg_sys::InitResultRelInfo(&raw mut target, relation, 1, ptr::null_mut(), 0);
            pg_sys::ExecOpenIndices(&raw mut target, false);
            pg_sys::simple_table_tuple_insert(relation, slot);
            if target.ri_NumIndices > 0 {
                version::insert_index_tuples(&raw mut target, slot, state);
            }
            pg_sys::ExecCloseIndices(&raw mut target);
            pg_sys::FreeExecutorState(state);
        }
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        is_complete
    }
}

/// Fills in the values; `false` if the table has other columns.
unsafe fn fill(slot: &pg_sys::TupleTableSlot, descriptor: pg_sys::TupleDesc, columns: &[Column]) -> bool {
    // SAFETY: the descriptor is that of the relation, which is open, and of the slot.
    unsafe {
        let attributes = relation::columns(descriptor);
        attributes.len() == columns.len()
            && attributes.iter().enumerate().all(|(index, attribute)| {
                let is_its = |column: &&Column| {
                    attribute.atttypmod == -1 && relation::is_column(attribute, column.name, column.type_oid)
                };
                let column = columns.iter().find(is_its);
                if let Some(column) = column {
                    *slot.tts_values.add(index) = column.value.unwrap_or(pg_sys::Datum::null());
                    *slot.tts_isnull.add(index) = column.value.is_none();
                }
                column.is_some()
            })
    }
}
