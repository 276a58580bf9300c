//! Keywords with their values, from one source.

use super::{
    error::{SettingsError, expected},
    keywords::{self, KEYWORDS, Support},
};
use std::{collections::HashMap, time::Duration};
use zeroize::Zeroizing;

/// The values of a DSN, a service or the environment. Any value may be a password, so all are wiped.
#[derive(Default)]
pub(super) struct Values(HashMap<&'static str, Zeroizing<String>>);

impl Values {
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword).map(|value| value.as_str())
    }

    /// A value that is not empty.
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

    /// Sets a value, or replaces an earlier one of the same source.
    pub fn set(&mut self, keyword: &str, value: Zeroizing<String>) -> Result<(), SettingsError> {
        let keyword = keywords::find(keyword)
            .ok_or_else(|| SettingsError::UnknownKeyword(keyword.escape_debug().to_string()))?;
        // As in libpq, requiressl is an older name of sslmode.
        if keyword.name == "requiressl" {
            let mode = if value.starts_with('1') { "require" } else { "prefer" };
            self.0.insert("sslmode", Zeroizing::new(mode.to_owned()));
        } else {
            self.0.insert(keyword.name, value);
        }
        Ok(())
    }

    /// Adds missing values from a source of lower precedence.
    pub fn complete_with(&mut self, lower: Self) {
        for (keyword, value) in lower.0 {
            self.0.entry(keyword).or_insert(value);
        }
    }

    /// Fails if a value needs support that this client lacks.
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
