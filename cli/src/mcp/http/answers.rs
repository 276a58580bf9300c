//! Answers of this server's own; those of the protocol are rmcp's.

use super::super::refusal::Refusal;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{self, HeaderValue},
};
use serde_json::Value;
use std::convert::Infallible;

pub type Body = BoxBody<Bytes, Infallible>;

pub fn json(status: StatusCode, object: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(object.to_string())).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub fn refused(refusal: &Refusal) -> Response<Body> {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json(status, &refusal.to_json())
}

/// Without `resource_metadata`, so that no client starts an OAuth flow that leads nowhere.
pub fn unauthorized() -> Response<Body> {
    let refusal = Refusal::new(
        401,
        "unauthorized",
        "the API key is missing, or is not valid",
        "Send Authorization: Bearer and one API key, which `intcred mcp key add` makes.",
    );
    let mut response = refused(&refusal);
    let challenge = HeaderValue::from_static("Bearer realm=\"intcred\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}

/// For a while.
pub fn retry_after(refusal: &Refusal, seconds: u16) -> Response<Body> {
    let mut response = refused(refusal);
    response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    response
}

pub fn only(method: &'static str) -> Response<Body> {
    let message = format!("only {method} is allowed here");
    let mut response = refused(&Refusal::new(405, "method_not_allowed", message, ""));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(method));
    response
}
