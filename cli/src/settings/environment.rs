//! What the process was started with: variables, home directory, user.

use nix::unistd::{User, geteuid};
use std::{
    collections::HashMap,
    env,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

pub(super) struct Environment {
    // One of them may be a password, so all are wiped.
    variables: HashMap<String, Zeroizing<String>>,
    home: Option<PathBuf>,
    user: Option<String>,
}

impl Environment {
    /// That of this process. A variable that is not UTF-8 counts as not set.
    pub fn of_process() -> Self {
        let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, Zeroizing::new(value.into_string().ok()?)))
        };
        Self {
            variables: env::vars_os().filter_map(utf8).filter(|(name, _)| name.starts_with("PG")).collect(),
            home: env::home_dir(),
            user: os_user(),
        }
    }

    #[cfg(test)]
    pub fn fake(home: &Path, variables: &[(&str, &str)]) -> Self {
        Self {
            variables: variables
                .iter()
                .map(|&(name, value)| (name.to_owned(), Zeroizing::new(value.to_owned())))
                .collect(),
            home: Some(home.to_owned()),
            user: Some("osuser".to_owned()),
        }
    }

    pub fn variable(&self, name: &str) -> Option<&Zeroizing<String>> {
        self.variables.get(name)
    }

    pub fn in_home(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(path))
    }

    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }
}

/// The name of the operating system's user that this process runs as.
#[must_use]
pub fn os_user() -> Option<String> {
    User::from_uid(geteuid()).ok().flatten().map(|user| user.name)
}
