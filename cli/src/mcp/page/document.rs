//! The document. It has no lookup and no side effect, so what previews links burns none.

use super::super::http::answers::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt, Full};
use hyper::{
    Response,
    body::Bytes,
    header::{self, HeaderName, HeaderValue},
};
use openssl::sha::sha256;
use std::sync::LazyLock;

const DOCUMENT: &str = include_str!("page.html");

/// Only this document's own script and style, and no other page around it.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let hash = |element| Some(STANDARD.encode(sha256(content(DOCUMENT, element)?.as_bytes())));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; form-action 'none'; \
         base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        hash("script")?,
        hash("style")?
    );
    HeaderValue::try_from(policy).ok()
});

/// Headers of every answer.
pub const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// The page; `None` if it has not one script and one style, which a test checks.
pub fn page() -> Option<Response<Body>> {
    let mut response = Response::new(Full::new(Bytes::from_static(DOCUMENT.as_bytes())).boxed());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone()?);
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    Some(response)
}

/// What is between the tags of an element that the document has once.
fn content<'a>(document: &'a str, element: &str) -> Option<&'a str> {
    let (before, rest) = document.split_once(&format!("<{element}>"))?;
    let (content, after) = rest.split_once(&format!("</{element}>"))?;
    let opens = format!("<{element}");
    (!before.contains(&opens) && !after.contains(&opens)).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_allows_the_one_script_and_the_one_style_by_their_hashes() {
        let page = page().unwrap();
        let policy = page.headers()["content-security-policy"].to_str().unwrap();
        assert_eq!(policy.matches("'sha256-").count(), 2);
        assert!(!policy.contains("unsafe"));
        let hash = STANDARD.encode(sha256(content(DOCUMENT, "script").unwrap().as_bytes()));
        assert!(policy.contains(&format!("script-src 'sha256-{hash}'")));
    }

    #[test]
    fn an_element_that_is_there_twice_has_no_content() {
        assert_eq!(content("<script>a</script>", "script"), Some("a"));
        assert_eq!(content("<script>a</script><script>b</script>", "script"), None);
        assert_eq!(content("<script src=x></script><script>b</script>", "script"), None);
        assert_eq!(content("", "script"), None);
    }
}
