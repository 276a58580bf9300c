//! Whether a certificate is for a host, by the rules of libpq: the alternative names, or else the common
//! name.
//!
//! OpenSSL's own rules differ: they do not compare an IP address with the common name.

use openssl::{
    nid::Nid,
    x509::{GeneralNameRef, X509Ref},
};
use std::net::IpAddr;

/// Whether the certificate is for this host.
pub(super) fn is_for(certificate: &X509Ref, host: &str) -> bool {
    let alternatives = certificate.subject_alt_names();
    let alternatives: Vec<_> = alternatives.iter().flatten().map(Name::of).collect();
    let mut commons = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    // As bytes, because a C string would end at a NUL.
    let common = commons.next().and_then(|entry| str::from_utf8(entry.data().as_slice()).ok());
    fits(&alternatives, common, host)
}

/// A subject alternative name.
enum Name<'a> {
    Host(&'a str),
    Address(&'a [u8]),
    Other,
}

impl<'a> Name<'a> {
    fn of(name: &'a GeneralNameRef) -> Self {
        match (name.dnsname(), name.ipaddress()) {
            (Some(host), _) => Self::Host(host),
            (_, Some(address)) => Self::Address(address),
            _ => Self::Other,
        }
    }
}

fn fits(alternatives: &[Name<'_>], common: Option<&str>, host: &str) -> bool {
    let address = host.parse::<IpAddr>().ok();
    let is_named = alternatives.iter().any(|name| match name {
        Name::Host(name) => matches(name, host),
        Name::Address(bytes) => match address {
            Some(IpAddr::V4(address)) => *bytes == address.octets(),
            Some(IpAddr::V6(address)) => *bytes == address.octets(),
            None => false,
        },
        Name::Other => false,
    });
    // An alternative name of the kind of the host replaces the common name.
    let is_of_kind = |name: &Name<'_>| match name {
        Name::Host(_) => address.is_none(),
        Name::Address(_) => address.is_some(),
        Name::Other => false,
    };
    is_named || !alternatives.iter().any(is_of_kind) && common.is_some_and(|common| matches(common, host))
}

/// A `*` matches the first label of a host name, and only as a whole label.
fn matches(name: &str, host: &str) -> bool {
    // An authority may have read the name only up to the NUL.
    if name.contains('\0') {
        return false;
    }
    name.eq_ignore_ascii_case(host)
        || name.strip_prefix('*').filter(|rest| rest.starts_with('.') && rest.len() > 1).is_some_and(|rest| {
            host.split_once('.').is_some_and(|(label, _)| {
                !label.is_empty() && rest.eq_ignore_ascii_case(&host[label.len()..])
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv6Addr;

    #[test]
    fn an_alternative_name_takes_the_place_of_the_common_name_of_its_kind() {
        assert!(fits(&[Name::Host("db.example")], None, "DB.example"));
        assert!(fits(&[], Some("db.example"), "db.example"));
        assert!(fits(&[Name::Other], Some("db.example"), "db.example"));
        assert!(!fits(&[Name::Host("other")], Some("db.example"), "db.example"));
        assert!(fits(&[Name::Address(&[10, 0, 0, 1])], None, "10.0.0.1"));
        assert!(fits(&[Name::Address(&[10, 0, 0, 1])], Some("db.example"), "db.example"));
        assert!(!fits(&[Name::Address(&[10, 0, 0, 1])], Some("10.0.0.2"), "10.0.0.2"));
        assert!(fits(&[Name::Host("db.example")], Some("10.0.0.2"), "10.0.0.2"));
        assert!(fits(&[Name::Address(&Ipv6Addr::LOCALHOST.octets())], None, "::1"));
        assert!(!fits(&[], None, "db.example"));
    }

    #[test]
    fn a_star_stands_for_one_label_and_the_first() {
        for (name, host, expected) in [
            ("*.example", "db.example", true),
            ("*.EXAMPLE", "db.example", true),
            ("*.example", "a.b.example", false),
            ("*.example", "example", false),
            ("*.example", ".example", false),
            ("d*.example", "db.example", false),
            ("*", "db", false),
            ("*.", "db.", false),
            ("a.*", "a.b", false),
            ("db.example\0.evil", "db.example", false),
        ] {
            assert_eq!(matches(name, host), expected, "{name:?} {host:?}");
        }
    }
}
