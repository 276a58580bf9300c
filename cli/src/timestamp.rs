//! A moment, shown as `2026-04-29T14:00:00.000Z`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{error::Error, fmt, time::SystemTime};
use tokio_postgres::types::{FromSql, Type};

/// A moment in UTC; shown, and written to JSON, in RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub SystemTime);

impl Timestamp {
    /// This moment, by the clock of this machine.
    #[must_use]
    pub fn now() -> Self {
        Self(SystemTime::now())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_millis(self.0).fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map(Self).map_err(de::Error::custom)
    }
}

impl<'a> FromSql<'a> for Timestamp {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        SystemTime::from_sql(ty, raw).map(Self)
    }

    fn accepts(ty: &Type) -> bool {
        <SystemTime as FromSql>::accepts(ty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_read_back_from_its_json() {
        let json = "\"2026-04-29T14:00:00.007Z\"";
        let timestamp: Timestamp = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&timestamp).unwrap(), json);
    }
}
