//! Validators and sync handlers: finding the function that the catalog names, and calling it.

use crate::catalog::Registered;
use crate::memory;
use crate::pg::error::forbidden;
use crate::pg::prepared::{argument, first, statement};
use crate::pg::text::{self, Text};
use integration_credentials_core::error::{ErrorCode, Refusal};
use pgrx::{FromDatum, IntoDatum, pg_sys};
use zeroize::Zeroize;

/// The signature that a validator or a sync handler must have.
pub struct Shape {
    /// Its name in messages.
    pub name: &'static str,
    arguments: &'static str,
    result: &'static str,
}

/// `f(value text) returns text`
pub static VALIDATOR: Shape = Shape { name: "validator", arguments: "text", result: "text" };
/// `f(org_slug text, key text, value text) returns void`
pub static SYNC_HANDLER: Shape =
    Shape { name: "sync handler", arguments: "text, text, text", result: "void" };

impl Shape {
    /// The hint on how to name a function.
    pub fn hint(&self) -> String {
        format!("Name a function with its schema and types, e.g. app.my_function({}).", self.arguments)
    }
}

/// A function that may run on a secret.
pub struct Routine {
    oid: pg_sys::Oid,
    /// Its owner, the role that it runs as.
    pub owner: pg_sys::Oid,
    /// Its signature, quoted and qualified.
    pub signature: String,
    /// The name of its owner; `None` for a function of the extension.
    pub owner_name: Option<String>,
}

// A function of a superuser would run as a superuser, so it is refused, except for those of the extension.
statement!(stable FIND(TEXTOID, TEXTOID, TEXTOID) "
    SELECT p.oid, p.proowner,
           pg_catalog.format('%I.%I(%s)', n.nspname, p.proname, pg_catalog.oidvectortypes(p.proargtypes)),
           p.prokind = 'f' AND NOT p.proretset
               AND pg_catalog.oidvectortypes(p.proargtypes) = $2 AND p.prorettype = $3::pg_catalog.regtype,
           r.rolsuper AND NOT ours.it_is,
           CASE WHEN NOT ours.it_is THEN r.rolname::pg_catalog.text END
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_catalog.pg_roles r ON r.oid = p.proowner
    CROSS JOIN LATERAL (SELECT EXISTS (
        SELECT FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
          AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'
          AND e.extname = 'integration_credentials')) ours (it_is)
    WHERE p.oid = pg_catalog.to_regprocedure($1)");

struct Found {
    routine: Routine,
    fits: bool,
    superuser: bool,
}

impl Routine {
    /// Finds a function by its signature, e.g. `app.check_salesforce(text)`.
    pub fn find(signature: &str, shape: &Shape) -> Result<Self, Refusal> {
        let arguments = [argument(signature), argument(shape.arguments), argument(shape.result)];
        let found = first(&FIND, &arguments, |row| {
            let (Some(oid), Some(owner), Some(Text(signature))) = (row.get(1)?, row.get(2)?, row.get(3)?)
            else {
                return Ok(None);
            };
            let routine = Self { oid, owner, signature, owner_name: row.get(6)?.map(|Text(name)| name) };
            // A NULL counts against the function.
            let (fits, superuser) = (row.get(4)?.unwrap_or(false), row.get(5)?.unwrap_or(true));
            Ok(Some(Found { routine, fits, superuser }))
        })
        .flatten();
        let Shape { name, arguments, result } = shape;
        match found {
            Some(Found { superuser: true, .. }) => Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("the {name} {signature} belongs to a superuser, and would run as a superuser"),
                format!(
                    "Give it to a role that has only the privileges it needs: ALTER FUNCTION {signature} OWNER TO ..."
                ),
            )),
            Some(Found { routine, fits: true, .. }) => Ok(routine),
            Some(_) => Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("function {signature} cannot be a {name}"),
                format!("A {name} is a plain function ({arguments}) that returns {result}."),
            )),
            None => Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("function {signature} does not exist"),
                shape.hint(),
            )),
        }
    }

    /// Finds a registered function, which must still have the owner of its registration.
    pub fn find_registered(registered: &Registered, shape: &Shape) -> Result<Self, Refusal> {
        let Registered { signature, owner } = registered;
        let found = Self::find(signature, shape)?;
        if found.owner_name == *owner {
            return Ok(found);
        }
        Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!("the {} {signature} has changed its owner since it was registered", shape.name),
            "A superuser can review the function and register it again.",
        ))
    }

    /// Whether this transaction has written it, and may still roll it back.
    pub fn is_uncommitted(&self) -> bool {
        // SAFETY: a row of pg_proc from the syscache, with its header.
        unsafe {
            let identifier = pg_sys::SysCacheIdentifier::PROCOID.cast_signed();
            let row =
                pg_sys::SearchSysCache1(identifier, self.oid.into_datum().unwrap_or(pg_sys::Datum::null()));
            if row.is_null() {
                return false;
            }
            let written_by = (*(*row).t_data).t_choice.t_heap.t_xmin;
            pg_sys::ReleaseSysCache(row);
            pg_sys::TransactionIdIsCurrentTransactionId(written_by)
        }
    }

    /// Calls the function for its effect.
    pub fn call(&self, arguments: &[&str]) {
        self.call_and(arguments, |_| ());
    }

    /// Calls a function that returns text.
    pub fn call_for_text(&self, arguments: &[&str]) -> Option<String> {
        self.call_and(arguments, |result| {
            // SAFETY: FIND made sure that a validator's result is text.
            result.and_then(|datum| unsafe { <&[u8]>::from_datum(datum, false) }).map(|reason| {
                memory::require_copies(reason, 8);
                text::lossy(reason)
            })
        })
    }

    /// Calls the function with texts. Their copies in Postgres' memory are wiped after the result is read,
    /// because the result may be one of them.
    fn call_and<R>(&self, arguments: &[&str], read: impl FnOnce(Option<pg_sys::Datum>) -> R) -> R {
        let copies: Vec<WipedText> = arguments.iter().map(|argument| WipedText::new(argument)).collect();
        let datums: Vec<pg_sys::Datum> = copies.iter().map(|copy| copy.datum).collect();
        let mut function = pg_sys::FmgrInfo::default();
        // SAFETY: the oid of a function, and `function` lives until the call returns.
        unsafe { pg_sys::fmgr_info(self.oid, &raw mut function) };
        read(invoke(&mut function, &datums))
    }
}

fn invoke(function: &mut pg_sys::FmgrInfo, arguments: &[pg_sys::Datum]) -> Option<pg_sys::Datum> {
    let address = function.fn_addr?;
    let header = std::mem::offset_of!(pg_sys::FunctionCallInfoBaseData, args);
    let size = header
        + std::mem::size_of_val(arguments) / size_of::<pg_sys::Datum>() * size_of::<pg_sys::NullableDatum>();
    // SAFETY: zeroed memory of the size of a call with these arguments; fields are set as
    // InitFunctionCallInfoData does. No Rust value with a destructor lives in the frame that an error would
    // jump over.
    unsafe {
        let call = pg_sys::palloc0(size).cast::<pg_sys::FunctionCallInfoBaseData>();
        (*call).flinfo = function;
        (*call).fncollation = pg_sys::DEFAULT_COLLATION_OID;
        (*call).nargs = i16::try_from(arguments.len()).unwrap_or_default();
        let slots = (&raw mut (*call).args).cast::<pg_sys::NullableDatum>();
        for (index, &value) in arguments.iter().enumerate() {
            slots.add(index).write(pg_sys::NullableDatum { value, isnull: false });
        }
        let datum = pg_sys::ffi::pg_guard_ffi_boundary(|| address(call));
        let datum = (!(*call).isnull).then_some(datum);
        pg_sys::pfree(call.cast());
        datum
    }
}

/// Refuses roles that are no superuser.
pub fn require_superuser(what: &str) -> Result<(), Refusal> {
    // SAFETY: asks for the current user, which is the caller, because register_* do not switch the role.
    if unsafe { pg_sys::superuser() } { Ok(()) } else { Err(forbidden(what)) }
}

/// A text as a datum that is wiped when dropped, because it may be a secret.
struct WipedText {
    datum: pg_sys::Datum,
    text_bytes: usize,
}

impl WipedText {
    fn new(text: &str) -> Self {
        let nothing = Self { datum: pg_sys::Datum::null(), text_bytes: 0 };
        text.into_datum().map_or(nothing, |datum| Self { datum, text_bytes: text.len() })
    }
}

impl Drop for WipedText {
    fn drop(&mut self) {
        // SAFETY: `new` made a varlena with a header of four bytes and this many bytes of text, in a memory
        // context that lasts as long as the call. Nothing else owns it.
        let bytes = unsafe {
            let start = self.datum.cast_mut_ptr::<u8>().add(pg_sys::VARHDRSZ);
            std::slice::from_raw_parts_mut(start, self.text_bytes)
        };
        bytes.zeroize();
    }
}
