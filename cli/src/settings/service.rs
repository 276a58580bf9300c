//! The service file: named groups of settings.

use super::{environment::Environment, error::SettingsError, file::read_text, values::Values};
use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The directory of the system's service file on Debian, unless `PGSYSCONFDIR` is set.
const SYSTEM_DIRECTORY: &str = "/etc/postgresql-common";

/// The settings of a service, from `servicefile` or the user's file, else from the system's.
pub(super) fn load(
    name: &str,
    file: Option<&str>,
    environment: &Environment,
) -> Result<Values, SettingsError> {
    let user = file.map(PathBuf::from);
    let named = user.is_some();
    let system = environment.variable("PGSYSCONFDIR")?.map_or(SYSTEM_DIRECTORY, |path| path.as_str());
    let candidates = [
        (user.or_else(|| environment.in_home(".pg_service.conf")), named),
        (Some(Path::new(system).join("pg_service.conf")), false),
    ];
    for (path, must_exist) in candidates {
        let Some(path) = path else { continue };
        match read_text(&path) {
            Ok(text) => {
                if let Some(values) = find(&text, name, &path)? {
                    return Ok(values);
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound && !must_exist => {}
            Err(source) => return Err(SettingsError::File { path, source }),
        }
    }
    Err(SettingsError::ServiceNotFound(name.to_owned()))
}

fn find(text: &str, name: &str, path: &Path) -> Result<Option<Values>, SettingsError> {
    let mut found: Option<Values> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            if found.is_some() {
                break;
            }
            if section == name {
                found = Some(Values::default());
            }
        } else if let Some(values) = &mut found {
            let malformed = || SettingsError::ServiceFile { path: path.to_owned(), line: number };
            let (keyword, value) = line.split_once('=').ok_or_else(malformed)?;
            // As in libpq, a service cannot refer to a service.
            if ["service", "servicefile"].contains(&keyword) {
                return Err(malformed());
            }
            // As in libpq, the first of two lines for one keyword counts.
            if values.get(keyword).is_none() {
                values.set(keyword, Zeroizing::new(value.to_owned()))?;
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const FILE: &str = "# ours\n[one]\nhost=a\n\n  port=1 \n[two]\nhost=b\npassword= p=q\nhost=c\n[bad]\nhost\n[nested]\nservice=one\n";

    fn found(name: &str) -> Result<Option<Values>, SettingsError> {
        find(FILE, name, Path::new("/f"))
    }

    #[test]
    fn a_service_ends_where_the_next_one_starts() {
        let one = found("one").unwrap().unwrap();
        assert_eq!((one.get("host"), one.get("port"), one.get("password")), (Some("a"), Some("1"), None));
        let two = found("two").unwrap().unwrap();
        assert_eq!((two.get("host"), two.get("password")), (Some("b"), Some(" p=q")));
        assert!(found("three").unwrap().is_none());
    }

    #[test]
    fn a_malformed_line_is_an_error_with_its_number() {
        assert_eq!(found("bad").err().unwrap().to_string(), "\"/f\", line 11, is not keyword=value");
        assert!(found("nested").is_err());
    }

    #[test]
    fn the_users_file_comes_before_the_systems() {
        let home = tempfile::tempdir().unwrap();
        let system = tempfile::tempdir().unwrap();
        fs::write(home.path().join(".pg_service.conf"), "[a]\nhost=home\n").unwrap();
        fs::write(system.path().join("pg_service.conf"), "[a]\nhost=system\n[b]\nhost=system\n").unwrap();
        let environment =
            Environment::fake(home.path(), &[("PGSYSCONFDIR", system.path().to_str().unwrap())]);
        assert_eq!(load("a", None, &environment).unwrap().get("host"), Some("home"));
        assert_eq!(load("b", None, &environment).unwrap().get("host"), Some("system"));
        assert!(matches!(load("c", None, &environment), Err(SettingsError::ServiceNotFound(_))));
    }
}
