//! `postgresql://user:password@host1:5433,host2/dbname?sslmode=verify-full`: libpq's URI form.

use super::{error::SettingsError, values::Values};
use zeroize::Zeroizing;

/// The text after `postgres://` or `postgresql://`; `None` without such a scheme.
pub(super) fn strip_scheme(text: &str) -> Option<&str> {
    ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme))
}

/// Splits at the same characters as libpq, so that both find the same password.
pub(super) fn parse(rest: &str) -> Result<Values, SettingsError> {
    let mut values = Values::default();
    let mut set = |keyword: &str, text: &str| {
        // An empty part is taken from the sources of lower precedence.
        if text.is_empty() { Ok(()) } else { values.set(keyword, decode(text)?) }
    };
    // As in libpq, everything before an "@" is user and password, unless it has a "/".
    let mut rest = rest;
    if let Some(at) = rest.find(['@', '/']).filter(|&at| rest[at..].starts_with('@')) {
        let (credentials, after) = (&rest[..at], &rest[at + 1..]);
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        set("user", user)?;
        set("password", password)?;
        rest = after;
    }
    let (mut hosts, mut ports) = (String::new(), String::new());
    loop {
        let (host, after) = host(rest)?;
        hosts.push_str(host);
        rest = after;
        if let Some(after) = rest.strip_prefix(':') {
            let (port, after) = after.split_at(after.find(['/', '?', ',']).unwrap_or(after.len()));
            ports.push_str(port);
            rest = after;
        }
        let Some(next) = rest.strip_prefix(',') else { break };
        hosts.push(',');
        ports.push(',');
        rest = next;
    }
    // A list of empty entries counts as empty.
    for (keyword, list) in [("host", &hosts), ("port", &ports)] {
        set(keyword, if list.bytes().all(|byte| byte == b',') { "" } else { list })?;
    }
    if let Some(after) = rest.strip_prefix('/') {
        let (dbname, after) = after.split_at(after.find('?').unwrap_or(after.len()));
        set("dbname", dbname)?;
        rest = after;
    }
    let query = rest.strip_prefix('?').unwrap_or(rest);
    // As in libpq, one "&" may stand at the end.
    for parameter in query.strip_suffix('&').unwrap_or(query).split('&').filter(|_| !query.is_empty()) {
        let (keyword, value) =
            parameter.split_once('=').ok_or(SettingsError::Uri("a parameter without \"=\""))?;
        if value.contains('=') {
            return Err(SettingsError::Uri("a parameter with more than one \"=\""));
        }
        match (&**decode(keyword)?, &**decode(value)?) {
            // As in URIs of JDBC.
            ("ssl", "true") => values.set("sslmode", Zeroizing::new("require".to_owned()))?,
            (keyword, value) => values.set(keyword, Zeroizing::new(value.to_owned()))?,
        }
    }
    Ok(values)
}

/// Splits after the first host.
fn host(rest: &str) -> Result<(&str, &str), SettingsError> {
    let Some(bracketed) = rest.strip_prefix('[') else {
        return Ok(rest.split_at(rest.find([':', '/', '?', ',']).unwrap_or(rest.len())));
    };
    let (address, after) =
        bracketed.split_once(']').ok_or(SettingsError::Uri("an IPv6 address without \"]\""))?;
    if address.is_empty() {
        return Err(SettingsError::Uri("an empty IPv6 address"));
    }
    if !after.is_empty() && !after.starts_with([':', '/', '?', ',']) {
        return Err(SettingsError::Uri("something other than a port after \"]\""));
    }
    Ok((address, after))
}

fn decode(text: &str) -> Result<Zeroizing<String>, SettingsError> {
    const MALFORMED: SettingsError =
        SettingsError::Uri("a \"%\" that is not followed by two hexadecimal digits");
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit =
                    || rest.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or(MALFORMED);
                u8::try_from(digit()? << 4 | digit()?).ok().filter(|&byte| byte != 0).ok_or(MALFORMED)?
            }
            byte => byte,
        });
    }
    let text = str::from_utf8(&bytes).map_err(|_| SettingsError::Uri("text that is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(uri: &str) -> Values {
        parse(strip_scheme(uri).unwrap()).unwrap()
    }

    #[test]
    fn every_part_is_found() {
        let values =
            parsed("postgresql://me:p%40ss:%2f@db.example:5433/app?sslmode=verify-full&connect_timeout=3");
        for (keyword, expected) in [
            ("user", "me"),
            ("password", "p@ss:/"),
            ("host", "db.example"),
            ("port", "5433"),
            ("dbname", "app"),
            ("sslmode", "verify-full"),
            ("connect_timeout", "3"),
        ] {
            assert_eq!(values.get(keyword), Some(expected));
        }
    }

    #[test]
    fn hosts_may_be_many_or_ipv6_or_a_directory_or_missing() {
        let values = parsed("postgres://[::1]:6432,two,three:7/");
        assert_eq!(values.get("host"), Some("::1,two,three"));
        assert_eq!(values.get("port"), Some("6432,,7"));
        assert_eq!(values.get("dbname"), None);
        assert_eq!(parsed("postgres://%2Fvar%2Frun/app").get("host"), Some("/var/run"));
        assert_eq!(parsed("postgres://").get("host"), None);
        assert_eq!(parsed("postgres:///app?host=/tmp&ssl=true").get("sslmode"), Some("require"));
        assert_eq!(parsed("postgres://:7/app").get("port"), Some("7"));
    }

    #[test]
    fn credentials_end_at_the_first_at_sign_as_for_libpq() {
        for (uri, user, password, host) in [
            ("postgres://u:p?x=y@h/d", Some("u"), Some("p?x=y"), Some("h")),
            ("postgres://u:a:b@h", Some("u"), Some("a:b"), Some("h")),
            ("postgres://u:p#&[]@h", Some("u"), Some("p#&[]"), Some("h")),
            ("postgres://u:p@s@h", Some("u"), Some("p"), Some("s@h")),
            ("postgres://:p@h", None, Some("p"), Some("h")),
            ("postgres://u@?host=h", Some("u"), None, Some("h")),
            ("postgres://h?user=u&password=p", Some("u"), Some("p"), Some("h")),
            ("postgres://h/d?user=a@b", Some("a@b"), None, Some("h")),
            ("postgres://%40abstract", None, None, Some("@abstract")),
        ] {
            let values = parsed(uri);
            let found = ["user", "password", "host"].map(|keyword| values.get(keyword));
            assert_eq!(found, [user, password, host], "{uri}");
        }
    }

    #[test]
    fn a_malformed_uri_is_an_error_without_the_password() {
        for uri in [
            "a:hunter2%zz@h/",
            "a:hunter2%0",
            "a:hunter2%00@h",
            "a:hunter2@[::1",
            "a:hunter2@[]",
            "a:hunter2@[::1]x",
            "a:hunter2@h/d?x",
            "a:hunter2@h?a=b=c",
            "a:hunter2@h?port=1&&",
        ] {
            let error = parse(uri).err().unwrap().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
