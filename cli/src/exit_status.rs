//! The exit statuses: the help shows this table, and each error has one of its rows.

use std::{fmt::Write as _, process::ExitCode};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    Done,
    Failed,
    Usage,
    NotAuthorised,
    Unavailable,
    SyncFailed,
}

impl ExitStatus {
    const ALL: [Self; 6] =
        [Self::Done, Self::Failed, Self::Usage, Self::NotAuthorised, Self::Unavailable, Self::SyncFailed];

    /// In lines that fit a terminal of 90 columns.
    const fn meaning(self) -> &'static [&'static str] {
        match self {
            Self::Done => &["done"],
            Self::Failed => &[
                "refused by the server's rules; any other error; doctor or audit verify found a problem,",
                "find nothing, check a value that cannot be decrypted; a rotation stopped; a key of",
                "encryption is missing, or still needed; a proof or head that proves nothing",
            ],
            Self::Usage => {
                &["wrong usage: arguments, connection settings, an empty or unreadable value, a bad file"]
            }
            Self::NotAuthorised => &["not authorised: the login, or the grants of the role"],
            Self::Unavailable => &[
                "cannot connect; a pooler drops the notifications; or the server or its extension",
                "is missing, too old, or not the extension's own",
            ],
            Self::SyncFailed => &["saved, but the sync failed; calling again is safe"],
        }
    }

    /// The table for the help.
    pub fn table() -> String {
        let mut table = "Exit status:".to_owned();
        for status in Self::ALL {
            // Writing into a String cannot fail.
            let _ = write!(table, "\n  {}  {}", status as u8, status.meaning().join("\n     "));
        }
        table
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}
