//! The process's environment variables, home directory and user.

use super::error::SettingsError;
use nix::unistd::{User, geteuid};
use std::{
    collections::HashMap,
    env,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

pub(super) struct Environment {
    /// `None` stands for a value that is not UTF-8. Any value may be a password, so all are wiped.
    variables: HashMap<String, Option<Zeroizing<String>>>,
    home: Option<PathBuf>,
    user: Option<String>,
}

impl Environment {
    pub fn of_process() -> Self {
        let entry = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            let name = name.into_string().ok().filter(|name| name.starts_with("PG"))?;
            Some((name, value.into_string().ok().map(Zeroizing::new)))
        };
        Self { variables: env::vars_os().filter_map(entry).collect(), home: env::home_dir(), user: os_user() }
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

    /// A variable that is not UTF-8 is an error: ignoring the variable could ignore a setting that protects.
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

/// The name of the operating system user of this process; `None` if the user has no name.
#[must_use]
pub fn os_user() -> Option<String> {
    User::from_uid(geteuid()).ok().flatten().map(|user| user.name)
}
