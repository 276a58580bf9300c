//! What is looked at before anybody is asked who they are: the host, the origin, and where a key must not be.

use super::super::{api_key, refusal::Refusal};
use hyper::{
    HeaderMap, Uri,
    header::{self, HeaderName},
    http::uri::Scheme,
};
use std::net::SocketAddr;

/// The names of this server, and the sites that may call it from a browser.
pub struct Names {
    /// `host:port`, in lower case.
    hosts: Vec<String>,
    /// The page's own origin.
    own: String,
    /// Other origins.
    allowed: Vec<String>,
}

impl Names {
    /// Of a server with this URL.
    pub fn new(url: &str, bound: SocketAddr, allowed: &[String]) -> Option<Self> {
        let mut names = Self::only(url)?;
        if bound.ip().is_loopback() {
            let port = bound.port();
            names.hosts.extend(["127.0.0.1", "localhost", "[::1]"].map(|name| format!("{name}:{port}")));
        }
        names.allowed = allowed.iter().map(|url| origin(url)).collect::<Option<_>>()?;
        Some(names)
    }

    /// Of a server that is called by this URL and by no other name.
    pub fn only(url: &str) -> Option<Self> {
        let own = origin(url)?;
        let (_, host) = own.split_once("://")?;
        Some(Self { hosts: vec![host.to_owned()], own, allowed: Vec::new() })
    }

    /// Fails for a host of another name, by which a page of that name could reach this server (DNS rebinding).
    pub fn check_host(&self, headers: &HeaderMap, is_https: bool) -> Result<(), Refusal> {
        let scheme = if is_https { "https" } else { "http" };
        let host = only_text(headers, &header::HOST).and_then(|host| origin(&format!("{scheme}://{host}")));
        let host = host.as_deref().and_then(|host| host.split_once("://"));
        let is_ours = host.is_some_and(|(_, host)| self.hosts.iter().any(|own| own == host));
        refuse_unless(is_ours, "Host is not this server's")
    }

    /// Fails for a page of another site. Programs send no origin.
    pub fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if !headers.contains_key(header::ORIGIN) {
            return Ok(());
        }
        let given = only_text(headers, &header::ORIGIN).and_then(origin);
        let is_ours = given.is_some_and(|given| given == self.own || self.allowed.contains(&given));
        refuse_unless(is_ours, "Origin is not allowed")
    }

    /// Fails unless this server's own page calls.
    pub fn check_page(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let given = only_text(headers, &header::ORIGIN).and_then(origin);
        let site = only_text(headers, &HeaderName::from_static("sec-fetch-site"));
        let is_ours = given.as_deref() == Some(&self.own) && site == Some("same-origin");
        refuse_unless(is_ours, "only the page itself may call this")
    }
}

fn refuse_unless(holds: bool, message: &'static str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::new(403, "forbidden_origin", message, "")) }
}

/// Fails for a key in the URL, which logs and proxies have seen by now.
pub fn check_query(uri: &Uri) -> Result<(), Refusal> {
    if uri.query().is_some_and(api_key::is_in) {
        return Err(Refusal::invalid(
            "the URL has what looks like an API key, and URLs are written to logs",
            "Revoke the key with `intcred mcp key revoke`. Send keys in the header Authorization.",
        ));
    }
    Ok(())
}

/// The only header of a name, as text.
pub fn only_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Scheme, host and port of a URL without a path, in lower case.
pub fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.trim_end_matches('/').parse().ok()?;
    let (scheme, authority) = (uri.scheme()?, uri.authority()?);
    let default = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let is_origin =
        matches!(uri.path(), "" | "/") && uri.query().is_none() && !authority.as_str().contains('@');
    let is_http = *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS;
    let host = authority.host().to_ascii_lowercase();
    let port = authority.port_u16().unwrap_or(default);
    (is_origin && is_http && !host.is_empty()).then(|| format!("{scheme}://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_host_of_another_name_is_refused() {
        let names = Names::new("https://mcp.example.com", "127.0.0.1:8080".parse().unwrap(), &[]).unwrap();
        let passes = |host| names.check_host(&with(&[("host", host)]), true).is_ok();
        for host in
            ["mcp.example.com", "MCP.example.com:443", "localhost:8080", "127.0.0.1:8080", "[::1]:8080"]
        {
            assert!(passes(host), "{host}");
        }
        for host in
            ["evil.example", "mcp.example.com:8443", "localhost", "mcp.example.com.evil.example", "a@b", ""]
        {
            assert!(!passes(host), "{host}");
        }
        assert!(names.check_host(&HeaderMap::new(), true).is_err());
        let mut two = with(&[("host", "mcp.example.com")]);
        two.append("host", "mcp.example.com".parse().unwrap());
        assert!(names.check_host(&two, true).is_err());
    }

    #[test]
    fn an_origin_is_compared_with_scheme_and_port() {
        let allowed = ["https://tool.example:8443".to_owned()];
        let names = Names::new("https://mcp.example.com", "0.0.0.0:443".parse().unwrap(), &allowed).unwrap();
        let passes = |origin| names.check_origin(&with(&[("origin", origin)])).is_ok();
        assert!(names.check_origin(&HeaderMap::new()).is_ok());
        assert!(passes("https://mcp.example.com") && passes("https://tool.example:8443"));
        for origin in [
            "null",
            "http://mcp.example.com",
            "https://mcp.example.com:8443",
            "https://tool.example",
            "",
            "x",
        ] {
            assert!(!passes(origin), "{origin}");
        }
    }

    #[test]
    fn the_page_calls_from_its_own_origin_only() {
        let names = Names::only("http://127.0.0.1:8080").unwrap();
        let passes =
            |origin, site| names.check_page(&with(&[("origin", origin), ("sec-fetch-site", site)])).is_ok();
        assert!(passes("http://127.0.0.1:8080", "same-origin"));
        for (origin, site) in [
            ("http://127.0.0.1:8081", "same-origin"),
            ("http://127.0.0.1:8080", "same-site"),
            ("http://127.0.0.1:8080", "none"),
            ("null", "same-origin"),
        ] {
            assert!(!passes(origin, site), "{origin} {site}");
        }
        assert!(names.check_page(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_url_with_a_path_or_a_user_is_no_origin() {
        assert_eq!(origin("HTTPS://Example.com/").as_deref(), Some("https://example.com:443"));
        for url in
            ["https://example.com/mcp", "https://user@example.com", "ftp://example.com", "example.com", ""]
        {
            assert_eq!(origin(url), None, "{url}");
        }
    }
}
