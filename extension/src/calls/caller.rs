//! The role that called. Functions that write to the audit log run as their owner, and the log names the
//! calling role.
//!
//! A SECURITY DEFINER function cannot see which role called: the role of SET ROLE, or the owner of another
//! definer function that calls ours. So these functions are declared without SECURITY DEFINER, and switch the
//! role here.

use crate::pg::call::{Answer, Call};
use crate::pg::error::Raised;
use crate::pg::prepared::{argument, first, statement};
use crate::pg::version;
use crate::user_functions::sandbox;
use integration_credentials_core::error::{ErrorCode, Refusal};
use pgrx::{IntoDatum, pg_sys};
use std::cell::RefCell;
use std::ffi::CStr;

/// A role.
#[derive(Clone, Copy)]
pub struct Role(pg_sys::Oid);

impl Role {
    /// The session role: the role that logged in, or that SET SESSION AUTHORIZATION named.
    pub fn session() -> Self {
        // SAFETY: a variable of this session.
        Self(unsafe { pg_sys::GetSessionUserId() })
    }

    /// Its oid.
    pub fn oid(self) -> pg_sys::Oid {
        self.0
    }

    /// Its name.
    pub fn name(self) -> String {
        // SAFETY: a C string of Postgres, which is copied.
        let name = unsafe { CStr::from_ptr(pg_sys::GetUserNameFromId(self.0, false)) };
        name.to_string_lossy().into_owned()
    }

    /// Whether it is a superuser.
    pub fn is_superuser(self) -> bool {
        // SAFETY: Postgres answers false for a role that was dropped.
        unsafe { pg_sys::superuser_arg(self.0) }
    }
}

/// The calling role, and the security context that it calls in.
#[derive(Clone, Copy)]
pub struct Caller {
    /// The calling role.
    pub role: Role,
    context: i32,
}

// Whether the sessions of a role have this org, in the order in which Postgres applies settings. Without such
// a setting: whether this session has its org from the server's configuration. Qualified names, because this
// may run as any role.
statement!(stable IS_OF_ORG(OIDOID, TEXTOID) "
    SELECT COALESCE(
        (SELECT pg_catalog.substr(entry, pg_catalog.length('integration_credentials.org_slug=') OPERATOR(pg_catalog.+) 1)
                    OPERATOR(pg_catalog.=) $2
         FROM pg_catalog.pg_db_role_setting AS s CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS entry
         WHERE s.setrole OPERATOR(pg_catalog.=) ANY (ARRAY['0'::pg_catalog.oid, $1])
             AND s.setdatabase OPERATOR(pg_catalog.=) ANY (ARRAY['0'::pg_catalog.oid,
                 (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())])
             AND pg_catalog.starts_with(entry, 'integration_credentials.org_slug=')
         ORDER BY (s.setrole OPERATOR(pg_catalog.<>) '0'::pg_catalog.oid) DESC,
                  (s.setdatabase OPERATOR(pg_catalog.<>) '0'::pg_catalog.oid) DESC
         LIMIT 1),
        (SELECT g.source OPERATOR(pg_catalog.=) ANY (ARRAY['default', 'configuration file', 'command line',
                    'environment variable', 'global'])
         FROM pg_catalog.pg_settings AS g WHERE g.name OPERATOR(pg_catalog.=) 'integration_credentials.org_slug'))");

thread_local! {
    /// The role that was last found to be of an org, and the org.
    static LAST_OF_ORG: RefCell<Option<(pg_sys::Oid, String)>> = const { RefCell::new(None) };
}

impl Caller {
    /// The caller of the function that begins now.
    pub fn now() -> Self {
        let (mut role, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: variables of this session.
        unsafe { pg_sys::GetUserIdAndSecContext(&raw mut role, &raw mut context) };
        Self { role: Role(role), context }
    }

    /// Whether the code of another role runs in this session: a SECURITY DEFINER function, or a function that
    /// maintenance runs for the owner of a table. The session, its role and its org are then not the
    /// caller's.
    pub fn is_guest(self) -> bool {
        let switched = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
        self.context & switched.cast_signed() != 0
            && self.role.0 != Role::session().0
            && !sandbox::is_inside()
    }

    /// Refuses a guest of another org: the session has the org, but the role has the right to act on it.
    pub fn check_org(self, org: &str) -> Result<(), Refusal> {
        if !self.is_guest() || self.role.is_superuser() || self.may_choose_org() {
            return Ok(());
        }
        let is_cached = LAST_OF_ORG.with_borrow(|last| {
            last.as_ref().is_some_and(|(role, name)| *role == self.role.0 && name == org)
        });
        let is_of_org = is_cached
            || first(&IS_OF_ORG, &[argument(self.role.0), argument(org)], |row| row.get::<bool>(1))
                .flatten()
                .unwrap_or(false);
        if !is_of_org {
            return Err(Refusal::new(
                ErrorCode::ForbiddenAdminScope,
                "permission denied: the role whose function calls belongs to another org than this session",
                "Call in a session of that role, or give the role and this session the same integration_credentials.org_slug.",
            ));
        }
        LAST_OF_ORG.set(Some((self.role.0, org.to_owned())));
        Ok(())
    }

    fn may_choose_org(self) -> bool {
        // SAFETY: asks about a setting by its name.
        let right = unsafe {
            pg_sys::pg_parameter_aclcheck(
                c"integration_credentials.org_slug".as_ptr(),
                self.role.0,
                version::ACL_SET,
            )
        };
        right == pg_sys::AclResult::ACLCHECK_OK
    }
}

/// Runs a call as the owner of the called function. After an error, Postgres resets the role at the end of
/// the transaction or subtransaction, as it does for SECURITY DEFINER.
pub fn as_owner(call: &Call, function: fn(&Call) -> Answer) -> Answer {
    let owner = owner(call);
    let Caller { role, context } = Caller::now();
    // SAFETY: variables of this session.
    unsafe {
        let changed = pg_sys::SECURITY_LOCAL_USERID_CHANGE.cast_signed();
        pg_sys::SetUserIdAndSecContext(owner, context | changed);
    }
    let answer = function(call);
    // SAFETY: the values read above.
    unsafe { pg_sys::SetUserIdAndSecContext(role.0, context) };
    answer
}

#[allow(clippy::cast_ptr_alignment, reason = "Postgres aligns its rows for any type")]
fn owner(call: &Call) -> pg_sys::Oid {
    // SAFETY: a valid call, whose flinfo is NULL or valid. The row is of pg_proc.
    unsafe {
        let function = (*call.raw()).flinfo.as_ref().map_or(pg_sys::InvalidOid, |info| info.fn_oid);
        let identifier = pg_sys::SysCacheIdentifier::PROCOID.cast_signed();
        let row = pg_sys::SearchSysCache1(identifier, function.into_datum().unwrap_or(pg_sys::Datum::null()));
        if row.is_null() {
            Raised::internal(
                "internal error in integration_credentials: the called function is not in pg_proc",
            )
            .throw()
        }
        let pg_sys::FormData_pg_proc { proowner, pronamespace, .. } =
            *pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_proc>();
        pg_sys::ReleaseSysCache(row);
        // The tables are found by the name of their schema. After a rename, another role could have made that
        // schema.
        if pronamespace != pg_sys::get_namespace_oid(c"integration_credentials".as_ptr(), true) {
            Raised::internal(
                "the schema of the extension integration_credentials was renamed; rename it back",
            )
            .throw()
        }
        proowner
    }
}
