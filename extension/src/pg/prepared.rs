//! SQL that is planned once and kept for the session.

use super::error::Raised;
use pgrx::IntoDatum;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::{BuiltinOid, PgOid};
use pgrx::spi::{OwnedPreparedStatement, PreparedStatement, Spi, SpiError, SpiTupleTable};
use std::cell::OnceCell;
use std::thread::LocalKey;

/// A statement, with its plan after the first run.
pub struct Statement {
    sql: &'static str,
    parameters: &'static [BuiltinOid],
    writes: bool,
    // Leaked on purpose: a backend ends by exit(), where freeing plans is neither needed nor safe.
    plan: OnceCell<&'static OwnedPreparedStatement>,
}

/// Declares a statement that is planned once a session. Its comment marks it in statistics and logs.
macro_rules! statement {
    ($access:ident $name:ident($($parameter:ident),*) $($sql:tt)+) => {
        thread_local! {
            static $name: $crate::pg::prepared::Statement = const {
                $crate::pg::prepared::Statement::$access(concat!("/* integration_credentials */", $($sql)+), &[$(pgrx::pg_sys::BuiltinOid::$parameter),*])
            };
        }
    };
}
pub(crate) use statement;

impl Statement {
    /// A statement that may write, and sees all changes of this transaction.
    pub const fn volatile(sql: &'static str, parameters: &'static [BuiltinOid]) -> Self {
        Self { sql, parameters, writes: true, plan: OnceCell::new() }
    }

    /// A statement that does not write, so that it runs on a standby too.
    pub const fn stable(sql: &'static str, parameters: &'static [BuiltinOid]) -> Self {
        Self { sql, parameters, writes: false, plan: OnceCell::new() }
    }

    fn plan(&self) -> Result<&'static OwnedPreparedStatement, SpiError> {
        if let Some(plan) = self.plan.get() {
            return Ok(plan);
        }
        let parameters: Vec<PgOid> = self.parameters.iter().map(|&oid| PgOid::BuiltIn(oid)).collect();
        let plan = Spi::connect(|client| {
            let plan = if self.writes {
                client.prepare_mut(self.sql, &parameters)
            } else {
                client.prepare(self.sql, &parameters)
            };
            plan.map(PreparedStatement::keep)
        })?;
        Ok(self.plan.get_or_init(|| Box::leak(Box::new(plan))))
    }
}

/// Runs a statement and reads its result. Errors of Postgres unwind by themselves; an `SpiError` is a misuse
/// of SPI.
pub fn run<R>(
    statement: &'static LocalKey<Statement>,
    arguments: &[DatumWithOid<'_>],
    read: impl FnOnce(SpiTupleTable<'_>) -> Result<R, SpiError>,
) -> R {
    let result = statement.with(|statement| {
        let plan = statement.plan()?;
        Spi::connect_mut(|client| {
            let rows = if statement.writes {
                client.update(plan, None, arguments)
            } else {
                client.select(plan, None, arguments)
            };
            rows.and_then(read)
        })
    });
    result.unwrap_or_else(|error| {
        Raised::internal(format!("internal error in integration_credentials: {error}")).throw()
    })
}

/// Runs a statement and reads its first row, if there is one.
pub fn first<R>(
    statement: &'static LocalKey<Statement>,
    arguments: &[DatumWithOid<'_>],
    read: impl FnOnce(SpiTupleTable<'_>) -> Result<R, SpiError>,
) -> Option<R> {
    run(statement, arguments, |rows| if rows.is_empty() { Ok(None) } else { read(rows.first()).map(Some) })
}

/// Runs a statement for its effect.
pub fn execute(statement: &'static LocalKey<Statement>, arguments: &[DatumWithOid<'_>]) {
    run(statement, arguments, |_| Ok(()));
}

/// An argument.
pub fn argument<'a, T: IntoDatum + 'a>(value: T) -> DatumWithOid<'a> {
    // SAFETY: the type's own oid describes its datum.
    unsafe { DatumWithOid::new(value, T::type_oid()) }
}
