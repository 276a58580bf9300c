//! The calls that register the functions of an entry: its validator and its sync handler.

use super::caller::Role;
use crate::audit;
use crate::catalog::{self, SyncMode};
use crate::pg::call::{self, Answer, Call};
use crate::pg::error::Raised;
use crate::pg::prepared::{Statement, argument, execute, statement};
use crate::settings;
use crate::user_functions::routine::{Routine, SYNC_HANDLER, Shape, VALIDATOR, require_superuser};
use integration_credentials_core::error::{ErrorCode, Refusal};
use integration_credentials_core::limits;
use pgrx::datum::DatumWithOid;
use serde_json::json;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::LocalKey;

use super::catalog::optional;

statement!(volatile SET_VALIDATOR(TEXTOID, TEXTOID, TEXTOID) "
    UPDATE integration_credentials.integration_catalog
    SET validator = $2, validator_owner = $3, updated_at = pg_catalog.clock_timestamp() WHERE integration_key = $1");

/// `register_validator(key, validator)`
pub fn call_register_validator(call: &Call) -> Answer {
    require_superuser("register a validator")?;
    let key = limits::key(call.text(0))?;
    let (signature, owner) = resolve(call.text(1), &VALIDATOR)?;
    name_function(key, &SET_VALIDATOR, &[argument(key), argument(signature.clone()), argument(owner)])?;
    let org = settings::current_org(call)?;
    let metadata = json!({"validator": signature});
    audit::write(call, &org, &Role::session().name(), "register_validator", key, &metadata);
    Ok(call::VOID)
}

statement!(volatile SET_SYNC_HANDLER(TEXTOID, TEXTOID, TEXTOID, TEXTOID) "
    UPDATE integration_credentials.integration_catalog
    SET sync_handler = $2, sync_handler_owner = $3, sync_mode = $4, updated_at = pg_catalog.clock_timestamp()
    WHERE integration_key = $1");

/// `register_sync_handler(key, sync_handler, mode)`
pub fn call_register_sync_handler(call: &Call) -> Answer {
    require_superuser("register a sync handler")?;
    let key = limits::key(call.text(0))?;
    let (signature, owner) = resolve(call.text(1), &SYNC_HANDLER)?;
    let mode = call.text(2).filter(|mode| SyncMode::parse(mode).is_some()).ok_or_else(|| {
        Refusal::new(
            ErrorCode::InvalidRequest,
            "mode is neither surface nor background",
            "surface shows a failure in the result of the set call, background logs it.",
        )
    })?;
    let mode = signature.is_some().then_some(mode);
    let arguments = [argument(key), argument(signature.clone()), argument(owner), argument(mode)];
    name_function(key, &SET_SYNC_HANDLER, &arguments)?;
    let org = settings::current_org(call)?;
    let metadata = json!({"syncHandler": signature, "mode": mode});
    audit::write(call, &org, &Role::session().name(), "register_sync_handler", key, &metadata);
    Ok(call::VOID)
}

/// The signature and the owner to store; `None` removes the function.
fn resolve(signature: Option<&str>, shape: &Shape) -> Result<(Option<String>, Option<String>), Refusal> {
    let Some(signature) = optional("the signature", signature)? else { return Ok((None, None)) };
    let routine =
        catch_unwind(AssertUnwindSafe(|| Routine::find(signature, shape))).unwrap_or_else(|payload| {
            // Postgres raises an error for a signature that it cannot parse. Its message goes into ours.
            let raised = Raised::from_panic(payload);
            if raised.is_interrupt {
                raised.throw()
            }
            Err(Refusal::new(ErrorCode::InvalidRequest, raised.message, shape.hint()))
        })?;
    Ok((Some(routine.signature), routine.owner_name))
}

fn name_function(
    key: &str,
    statement: &'static LocalKey<Statement>,
    arguments: &[DatumWithOid<'_>],
) -> Result<(), Refusal> {
    catalog::find(key)?;
    execute(statement, arguments);
    Ok(())
}
