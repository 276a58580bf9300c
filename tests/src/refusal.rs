//! The form of each error of the extension.

use integration_credentials_core::error::ErrorCode;
use serde_json::{Value, json};
use std::fmt::Debug;
use tokio_postgres::error::DbError;

/// Panics unless `result` is the error `code` in every part: SQLSTATE, message, DETAIL and HINT. Returns the
/// error, to be searched with [`crate::Canary::assert_absent`].
#[track_caller]
pub fn assert_error<T: Debug>(result: Result<T, tokio_postgres::Error>, code: ErrorCode) -> DbError {
    let error = result.expect_err("the call must be refused");
    let Some(error) = error.as_db_error() else { panic!("not an answer of the server: {error:?}") };
    assert_eq!(error.code().code(), code.sqlstate(), "{error:?}");
    assert!(!error.message().is_empty(), "{error:?}");
    // Postgres itself raises this one, without DETAIL and HINT.
    if code != ErrorCode::ForbiddenAdminScope {
        let detail: Option<Value> = error.detail().and_then(|detail| serde_json::from_str(detail).ok());
        let mut detail = detail.unwrap_or_default();
        // What else these two tell, their own tests check.
        if matches!(code, ErrorCode::RevisionConflict | ErrorCode::NotConverged) {
            let facts = detail.as_object_mut().expect("an object");
            facts.retain(|name, _| ["status", "code"].contains(&name.as_str()));
        }
        let expected = json!({"status": code.status(), "code": code.as_str()});
        assert_eq!(detail, expected, "{error:?}");
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{error:?}");
    }
    error.clone()
}
