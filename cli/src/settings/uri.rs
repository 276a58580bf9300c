//! `postgresql://user:password@host1:5433,host2/dbname?sslmode=verify-full`: libpq's URI form.

use super::{SettingsError, values::Values};
use zeroize::Zeroizing;

/// What follows `postgres://` or `postgresql://`, if the text is such a URI.
pub(super) fn strip_scheme(text: &str) -> Option<&str> {
    ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme))
}

pub(super) fn parse(rest: &str) -> Result<Values, SettingsError> {
    let mut values = Values::default();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, dbname) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    for (keyword, text) in [("user", user), ("password", password), ("dbname", dbname)] {
        if !text.is_empty() {
            values.set(keyword, decode(text)?)?;
        }
    }
    if !hosts.is_empty() {
        let (hosts, ports): (Vec<_>, Vec<_>) =
            hosts.split(',').map(host_and_port).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
        // Nothing but commas or nothing at all leaves the word to the sources of lower precedence.
        for (keyword, list) in [("host", hosts), ("port", ports)] {
            if list.iter().any(|element| !element.is_empty()) {
                values.set(keyword, decode(&list.join(","))?)?;
            }
        }
    }
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (keyword, value) =
            parameter.split_once('=').ok_or(SettingsError::Uri("a parameter without \"=\""))?;
        match (&**decode(keyword)?, &**decode(value)?) {
            // What JDBC writes.
            ("ssl", "true") => values.set("sslmode", Zeroizing::new("require".to_owned()))?,
            (keyword, value) => values.set(keyword, Zeroizing::new(value.to_owned()))?,
        }
    }
    Ok(values)
}

fn host_and_port(text: &str) -> Result<(&str, &str), SettingsError> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, after) =
            bracketed.split_once(']').ok_or(SettingsError::Uri("an IPv6 address without \"]\""))?;
        return match (after, after.strip_prefix(':')) {
            ("", _) => Ok((address, "")),
            (_, Some(port)) => Ok((address, port)),
            (_, None) => Err(SettingsError::Uri("something other than a port after \"]\"")),
        };
    }
    Ok(text.split_once(':').unwrap_or((text, "")))
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
    let text = str::from_utf8(&bytes).map_err(|_| SettingsError::Uri("something that is not UTF-8"))?;
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
    fn a_malformed_uri_is_an_error_without_the_password() {
        for uri in ["a:hunter2%zz@h/", "a:hunter2%0", "a:hunter2%00@h", "a:hunter2@[::1", "a:hunter2@h/d?x"] {
            let error = parse(uri).err().unwrap().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
