//! The metering row of each call.

use crate::memory;
use crate::pg::call::{self, Answer, Call};
use crate::pg::heap_insert::{Log, append, column};
use crate::pg::jsonb::Document;
use crate::pg::prepared::statement;
use crate::{catalog, settings};
use integration_credentials_core::error::{ErrorCode, Refusal};
use integration_credentials_core::limits;
use integration_credentials_core::redact::REDACTED;
use integration_credentials_core::tool::Tool;
use pgrx::pg_sys;
use serde_json::{Map, Value};
use std::ffi::CString;
use std::time::Instant;

const METERING: Log =
    Log { table: c"tool_metering", ids: c"tool_metering_id_seq", insert: &METER, insert_with: None };
statement!(volatile METER(TEXTOID, TEXTOID, TEXTOID, TEXTOID, FLOAT8OID, JSONBOID) "
    INSERT INTO integration_credentials.tool_metering
        (org_slug, tool_key, actor, outcome, duration_ms, metadata)
    VALUES ($1, $2, $3, $4, $5, $6)");

fn meter(tool: &Tool, org: &str, actor: &str, outcome: &str, milliseconds: f64, parameters: Value) {
    let parameters = match parameters {
        Value::Object(parameters) => tool.redact(parameters),
        _ => Map::new(),
    };
    let metadata = Value::Object(Map::from_iter([("parameters".to_owned(), Value::Object(parameters))]));
    let columns = [
        column(c"org_slug", org),
        column(c"tool_key", tool.key),
        column(c"actor", actor),
        column(c"outcome", outcome),
        column(c"duration_ms", milliseconds),
        column(c"metadata", Document::of(&metadata)),
    ];
    append(&METERING, &columns);
}

/// A call that is being metered.
pub struct Metering {
    tool: &'static Tool,
    started: Instant,
}

impl Metering {
    /// Starts the clock, and refuses a transaction that could not write the row anyway.
    pub fn start(tool: &'static Tool) -> Self {
        let started = Instant::now();
        refuse_if_read_only(tool.key);
        Self { tool, started }
    }

    /// Writes the row; without a code the outcome is `ok`.
    pub fn finish(self, org: &str, actor: &str, outcome: Option<ErrorCode>, parameters: Value) {
        let milliseconds = self.started.elapsed().as_secs_f64() * 1000.0;
        meter(self.tool, org, actor, outcome.map_or("ok", ErrorCode::as_str), milliseconds, parameters);
    }
}

/// Refuses a read-only transaction, such as any on a standby, before the call does anything else.
pub fn refuse_if_read_only(function: &str) {
    let name = CString::new(format!("{function}()")).unwrap_or_default();
    // SAFETY: a C string that outlives the call.
    unsafe { pg_sys::PreventCommandIfReadOnly(name.as_ptr()) };
}

/// Whether this transaction may not write.
pub fn is_read_only() -> bool {
    // SAFETY: a variable of the server.
    unsafe { pg_sys::XactReadOnly }
}

/// The longest `parameters`, in bytes: clients send names, which are far shorter.
const MAX_PARAMETER_BYTES: usize = 64 << 10;
/// The most memory that parsed `parameters` take, in bytes.
const PARSED_BYTES: usize = 16 << 20;

/// `record_tool_failure(tool_key, outcome, parameters, duration_ms)`
pub fn call_record_tool_failure(call: &Call) -> Answer {
    refuse_if_read_only("record_tool_failure");
    let org = settings::current_org(call)?;
    let tool = call.text(0).and_then(Tool::find).ok_or_else(|| invalid("tool_key names no metered tool"))?;
    let outcome =
        call.text(1).and_then(ErrorCode::from_name).ok_or_else(|| invalid("outcome is not an error code"))?;
    let parameters = call.text(2).unwrap_or_default();
    if parameters.len() > MAX_PARAMETER_BYTES {
        let bytes = parameters.len();
        return Err(invalid(&format!(
            "parameters has {bytes} bytes; at most {MAX_PARAMETER_BYTES} are allowed"
        )));
    }
    memory::require(PARSED_BYTES);
    let mut parameters: Map<String, Value> =
        serde_json::from_str(parameters).ok().ok_or_else(|| invalid("parameters is not a JSON object"))?;
    let milliseconds = call
        .double(3)
        .filter(|milliseconds| milliseconds.is_finite() && *milliseconds >= 0.0)
        .ok_or_else(|| invalid("duration_ms is not a number of milliseconds"))?;

    // The call may have failed because an argument was too long.
    parameters.values_mut().for_each(shorten);
    // A key that the catalog does not have may be a misplaced secret.
    if let Some(key) = parameters.get_mut("key")
        && catalog::find(key.as_str().unwrap_or_default()).is_err()
    {
        *key = REDACTED.into();
    }
    let actor = parameters.get("actor").and_then(Value::as_str).unwrap_or_default().to_owned();
    meter(tool, &org, &actor, outcome.as_str(), milliseconds, Value::Object(parameters));
    Ok(call::VOID)
}

fn shorten(parameter: &mut Value) {
    match parameter {
        Value::String(text) => {
            if let Some((cut, _)) = text.char_indices().nth(limits::MAX_ACTOR_CHARS) {
                text.truncate(cut);
            }
        }
        Value::Array(_) | Value::Object(_) => *parameter = Value::Null,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn invalid(problem: &str) -> Refusal {
    Refusal::new(
        ErrorCode::InvalidRequest,
        problem,
        "A client calls record_tool_failure(tool_key, outcome, parameters, duration_ms) after a call of a metered tool \
         has failed.",
    )
}
