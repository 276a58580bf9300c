//! `~/.pgpass`: lines of `host:port:database:user:password`.

use super::file::read_bytes;
use crate::Secret;
use std::{fs, io::ErrorKind, os::unix::fs::PermissionsExt, path::Path, str::Utf8Error};
use zeroize::Zeroizing;

/// A password file, as bytes: a line that is not UTF-8 must not invalidate the others.
#[derive(Default)]
pub(super) struct Passfile(Zeroizing<Vec<u8>>);

impl Passfile {
    /// Reads the file. A missing file counts as empty. As in libpq, a file that others can read, or that
    /// cannot be read, is not used, with a warning.
    pub fn load(path: &Path, warnings: &mut Vec<String>) -> Self {
        let shown = path.display();
        match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::default(),
            Ok(metadata) if !metadata.is_file() => {
                warnings.push(format!("password file \"{shown}\" is not a plain file and is not used"));
                return Self::default();
            }
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
                warnings.push(format!(
                    "password file \"{shown}\" can be read by group or others and is not used; run chmod 600"
                ));
                return Self::default();
            }
            Ok(_) | Err(_) => {}
        }
        match read_bytes(path) {
            Ok(bytes) => {
                let passfile = Self(bytes);
                for (number, line) in (1..).zip(passfile.lines()) {
                    if line.is_err() {
                        warnings.push(format!(
                            "line {number} of password file \"{shown}\" is not UTF-8 and is not used"
                        ));
                    }
                }
                passfile
            }
            Err(error) => {
                warnings.push(format!("password file \"{shown}\" is not used: {error}"));
                Self::default()
            }
        }
    }

    fn lines(&self) -> impl Iterator<Item = Result<&str, Utf8Error>> {
        self.0
            .split(|&byte| byte == b'\n')
            .map(|line| str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)))
    }

    /// The password of the first line that matches.
    pub fn find(&self, host: &str, port: &str, dbname: &str, user: &str) -> Option<Secret> {
        let wanted = [host, port, dbname, user];
        self.lines().flatten().filter(|line| !line.starts_with('#')).find_map(|line| {
            let mut rest = line;
            for wanted in wanted {
                let (is_wildcard, found) = (rest.starts_with("*:"), field(&mut rest)?);
                if !is_wildcard && *found != wanted {
                    return None;
                }
            }
            // The last field ends at a colon or at the end of the line.
            let password = field(&mut rest).unwrap_or_else(|| unescape(rest));
            Some(Secret::from(password))
        })
    }
}

/// Removes a field and its colon from the front.
fn field(rest: &mut &str) -> Option<Zeroizing<String>> {
    let mut escaped = false;
    let end = rest.find(|next| {
        let ends = next == ':' && !escaped;
        escaped = next == '\\' && !escaped;
        ends
    })?;
    let field = unescape(&rest[..end]);
    *rest = &rest[end + 1..];
    Some(field)
}

/// Removes the backslashes, except one at the end.
fn unescape(text: &str) -> Zeroizing<String> {
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        plain.push(if next == '\\' { rest.next().unwrap_or('\\') } else { next });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &str, host: &str, user: &str) -> Option<String> {
        let passfile = Passfile(Zeroizing::new(text.as_bytes().to_vec()));
        passfile.find(host, "5432", "app", user).map(|password| password.expose().to_owned())
    }

    #[test]
    fn the_first_line_that_matches_counts() {
        let text =
            "#h:5432:app:me:no\nother:5432:app:me:no\nh:*:*:you:yours\nh:5432:app:*:first\n*:*:*:*:second";
        assert_eq!(find(text, "h", "me").unwrap(), "first");
        assert_eq!(find(text, "h", "you").unwrap(), "yours");
        assert_eq!(find(text, "x", "me").unwrap(), "second");
        assert_eq!(find("h:5432:app", "h", "me"), None);
    }

    #[test]
    fn a_backslash_protects_a_colon_and_itself() {
        assert_eq!(find(r"\:\:1:5432:app:a\\b:p\:q\\r", "::1", r"a\b").unwrap(), r"p:q\r");
        assert_eq!(find(r"h:5432:app:me:secret:rest", "h", "me").unwrap(), "secret");
        assert_eq!(find(r"h:5432:app:\*:p", "h", "me"), None);
        assert_eq!(find(r"h:5432:app:\*:p", "h", "*").unwrap(), "p");
    }

    #[test]
    fn a_byte_that_is_not_utf8_spoils_its_own_line_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pgpass");
        fs::write(&path, b"# K\xf6ln\nh:1:d:u:p\xe4ss\nh:1:d:*:other\r\n*:*:*:*:last\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut warnings = Vec::new();
        let passfile = Passfile::load(&path, &mut warnings);
        assert_eq!(passfile.find("h", "1", "d", "u").unwrap().expose(), "other");
        assert_eq!(passfile.find("x", "1", "d", "u").unwrap().expose(), "last");
        assert!(warnings.len() == 2 && warnings[1].starts_with("line 2 of password file"), "{warnings:?}");
    }

    #[test]
    fn a_file_that_others_can_read_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pgpass");
        fs::write(&path, "*:*:*:*:p\n").unwrap();
        for (mode, warned) in [(0o644, 1), (0o640, 1), (0o600, 0)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let mut warnings = Vec::new();
            let passfile = Passfile::load(&path, &mut warnings);
            assert_eq!(warnings.len(), warned);
            assert_eq!(passfile.find("h", "1", "d", "u").is_some(), warned == 0);
        }
        let mut warnings = Vec::new();
        Passfile::load(&directory.path().join("none"), &mut warnings);
        assert!(warnings.is_empty());
    }
}
