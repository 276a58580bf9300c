//! Checks a value: by the catalog's rules, then by the validator, if there is one.

use super::routine::{Routine, SYNC_HANDLER, VALIDATOR};
use super::sandbox::{self, Access};
use crate::catalog::{Entry, Registered};
use crate::memory;
use crate::pg::error::Raised;
use crate::pg::jsonb::{Document, Unreadable};
use integration_credentials_core::error::{ErrorCode, Refusal};
use integration_credentials_core::redact;
use integration_credentials_core::rules::{self, Rules};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// More integrations than a session is likely to set. A full cache is emptied.
const MAX_COMPILED: usize = 64;
/// Enough for as many ordinary rules.
const MAX_COMPILED_BYTES: usize = 32 << 20;

thread_local! {
    /// Compiled rules by their document, so that a change of the catalog needs no invalidation.
    static COMPILED: RefCell<HashMap<Document, Rc<Rules>>> = RefCell::default();
}

/// Refuses a value that the rules or the validator of its integration do not accept.
pub fn check(entry: &Entry, key: &str, value: &str) -> Result<(), Refusal> {
    // Registration accepts only rules that compile, but an operator can UPDATE the catalog by hand.
    let rules = compiled(&entry.rules).unwrap_or_else(|problem| {
        Raised::internal(format!("cannot use the rules of integration {key:?}: {problem}")).throw()
    });
    // Any other fits the reserve.
    if rules.are_costly() {
        memory::require(rules::CHECK_BYTES);
    }
    rules.check(value).map_err(|reason| refusal(key, &reason))?;
    match &entry.validator {
        Some(validator) => ask(validator, key, value),
        None => Ok(()),
    }
}

/// Whether this transaction has written a function that would see the value.
pub fn is_uncommitted(entry: &Entry) -> bool {
    let validator = entry.validator.as_ref().map(|validator| Routine::find_registered(validator, &VALIDATOR));
    let handler = entry.sync.as_ref().map(|sync| Routine::find_registered(&sync.handler, &SYNC_HANDLER));
    // A function that cannot be found does not run.
    validator.into_iter().chain(handler).flatten().any(|routine| routine.is_uncommitted())
}

fn compiled(document: &Document) -> Result<Rc<Rules>, String> {
    if let Some(rules) = COMPILED.with_borrow(|compiled| compiled.get(document).cloned()) {
        return Ok(rules);
    }
    let text = document.text().map_err(|unreadable| match unreadable {
        Unreadable::TooLong(bytes) => rules::RulesError::Size(bytes).to_string(),
        Unreadable::NotUtf8 => "rules are not valid UTF-8".to_owned(),
    })?;
    memory::require(rules::COMPILE_BYTES);
    let rules = Rc::new(Rules::compile(&text).map_err(|error| error.to_string())?);
    COMPILED.with_borrow_mut(|compiled| {
        let bytes = compiled.values().map(|rules| rules.weight()).sum::<usize>() + rules.weight();
        if compiled.len() >= MAX_COMPILED || bytes > MAX_COMPILED_BYTES {
            compiled.clear();
        }
        compiled.insert(document.clone(), rules.clone());
    });
    Ok(rules)
}

fn ask(registered: &Registered, key: &str, value: &str) -> Result<(), Refusal> {
    // While the validator is missing, a value cannot be checked, so it is not stored.
    let validator = Routine::find_registered(registered, &VALIDATOR).map_err(|problem| {
        Refusal::new(
            ErrorCode::InvalidCredentials,
            format!("cannot run the validator of integration {key:?}: {}", problem.message),
            "A superuser can correct the function, or register another with register_validator().",
        )
    })?;
    let verdict = sandbox::run(validator.owner, Access::Read, value, || validator.call_for_text(&[value]));
    match verdict {
        Ok(None) => Ok(()),
        Ok(Some(reason)) => Err(refusal(key, &redact::reason(&reason, value))),
        Err(reason) => Err(refusal(key, &reason)),
    }
}

fn refusal(key: &str, reason: &str) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidCredentials,
        reason,
        format!("Correct the value and set it again. This call did not change the credential of {key:?}."),
    )
}
