//! Keywords with their values, as one source gave them.

use super::{
    error::{SettingsError, expected},
    keywords::{self, KEYWORDS, Support},
};
use std::{collections::HashMap, time::Duration};
use zeroize::Zeroizing;

/// What a DSN, a service or the environment said. Any value may be a password, so all are wiped.
#[derive(Default)]
pub(super) struct Values(HashMap<&'static str, Zeroizing<String>>);

impl Values {
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword).map(|value| value.as_str())
    }

    /// A value that is there and not empty.
    pub fn filled(&self, keyword: &str) -> Option<&str> {
        self.get(keyword).filter(|value| !value.is_empty())
    }

    pub fn number(&self, keyword: &'static str) -> Result<Option<i32>, SettingsError> {
        self.filled(keyword)
            .map(|value| value.trim().parse().map_err(|_| expected(keyword, "a whole number")))
            .transpose()
    }

    pub fn seconds(&self, keyword: &'static str) -> Result<Option<Duration>, SettingsError> {
        Ok(self.number(keyword)?.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
    }

    /// Sets what the same source may have set before.
    pub fn set(&mut self, keyword: &str, value: Zeroizing<String>) -> Result<(), SettingsError> {
        let known = keywords::find(keyword)
            .ok_or_else(|| SettingsError::UnknownKeyword(keyword.escape_debug().to_string()))?;
        // As libpq reads it, where the one and the other are the same setting.
        if known.name == "requiressl" {
            let mode = if value.starts_with('1') { "require" } else { "prefer" };
            self.0.insert("sslmode", Zeroizing::new(mode.to_owned()));
        } else {
            self.0.insert(known.name, value);
        }
        Ok(())
    }

    /// Takes from a source of lower precedence what is missing here.
    pub fn complete_with(&mut self, lower: Self) {
        for (keyword, value) in lower.0 {
            self.0.entry(keyword).or_insert(value);
        }
    }

    /// Fails if something is asked for that this client cannot do.
    pub fn check(&self) -> Result<(), SettingsError> {
        for keyword in &KEYWORDS {
            if let (Support::OnlyAt(harmless), Some(value)) = (keyword.support, self.filled(keyword.name))
                && !harmless.contains(&value)
            {
                return Err(SettingsError::Unsupported { keyword: keyword.name, harmless });
            }
        }
        Ok(())
    }
}
