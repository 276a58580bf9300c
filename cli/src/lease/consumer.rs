//! Who a consumer is.

use crate::Error;
use std::{env, fmt, path::Path, process};

/// As long as a name may be, in characters.
const MAX_NAME: usize = 255;

/// A consumer, as the server knows it. Reports that overtake one another would be a lie, so a consumer has at
/// most one report without an answer, ever: after that it goes on with another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConsumerId(u128);

impl ConsumerId {
    /// A random UUID, of version 4.
    pub fn new() -> Result<Self, Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)
            .map_err(|_| Error::Unexpected("the operating system gave no random bytes".to_owned()))?;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Ok(Self(u128::from_be_bytes(bytes)))
    }
}

/// As 32 digits, which Postgres reads as a UUID.
impl fmt::Display for ConsumerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The name for people: as given, else the program, the host and the process.
pub(crate) fn name(given: Option<String>) -> String {
    let name = given.unwrap_or_else(|| {
        let program = env::args_os().next();
        let program = program.as_deref().and_then(|path| Path::new(path).file_name()?.to_str());
        let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
        let (program, host) = (program.unwrap_or("intcred"), host.as_deref().unwrap_or("localhost"));
        format!("{program}@{host} {}", process::id())
    });
    name.chars().take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_random_and_names_short() {
        let id = ConsumerId::new().unwrap();
        let digits = id.to_string();
        assert_eq!((digits.len(), &digits[12..13]), (32, "4"));
        assert_ne!(id, ConsumerId::new().unwrap());
        assert_eq!(name(Some("é".repeat(300))).chars().count(), MAX_NAME);
        assert!(name(None).ends_with(&format!(" {}", process::id())));
    }
}
