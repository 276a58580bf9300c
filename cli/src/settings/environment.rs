//! What the process was started with: variables, home directory, user.

use super::error::SettingsError;
use nix::unistd::{User, geteuid};
use std::{
    collections::HashMap,
    env,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

pub(super) struct Environment {
    // One of them may be a password, so all are wiped. `None` is not UTF-8.
    variables: HashMap<String, Option<Zeroizing<String>>>,
    home: Option<PathBuf>,
    user: Option<String>,
}

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let ours = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("PG"))?;
            Some((name, value.into_string().ok().map(Zeroizing::new)))
        };
        Self { variables: env::vars_os().filter_map(ours).collect(), home: env::home_dir(), user: os_user() }
    }

    #[cfg(test)]
    pub fn fake(home: &Path, variables: &[(&str, &str)]) -> Self {
        Self {
            variables: variables
                .iter()
                .map(|&(name, value)| (name.to_owned(), Some(Zeroizing::new(value.to_owned()))))
                .collect(),
            home: Some(home.to_owned()),
            user: Some("osuser".to_owned()),
        }
    }

    /// A variable. One that is not UTF-8 may ask for protection, so it is an error and not as good as none.
    pub fn variable(&self, name: &'static str) -> Result<Option<&Zeroizing<String>>, SettingsError> {
        match self.variables.get(name) {
            None => Ok(None),
            Some(Some(value)) => Ok(Some(value)),
            Some(None) => Err(SettingsError::Variable(name)),
        }
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
