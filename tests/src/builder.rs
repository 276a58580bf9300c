//! The options of a cluster.

use crate::{Cluster, installation::EXTENSION};
use integration_credentials_core::keyring::Keyring;

/// A cluster that is not started yet.
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder {
    pub(crate) tcp: bool,
    pub(crate) preload: Vec<String>,
    pub(crate) keys: Keys,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) languages: Vec<String>,
    pub(crate) memory_kb: Option<u64>,
}

/// Where the server finds its keyring.
#[derive(Clone, Debug)]
pub(crate) enum Keys {
    File(Vec<u8>),
    Command(String),
    None,
}

impl Builder {
    /// The extension preloaded, a new keyring in a file, a socket and no TCP; otherwise Postgres' defaults.
    pub(crate) fn new() -> Self {
        let keyring = Keyring::generate().and_then(|keyring| keyring.to_document()).expect("a keyring");
        Self {
            tcp: false,
            preload: vec![EXTENSION.into()],
            keys: Keys::File(keyring.as_bytes().to_vec()),
            settings: Vec::new(),
            languages: Vec::new(),
            memory_kb: None,
        }
    }

    /// Listens on a free port of 127.0.0.1 as well. Any local user can connect, as any role.
    pub fn tcp(self) -> Self {
        Self { tcp: true, ..self }
    }

    /// Preloads nothing, and requires no installed extension.
    pub fn without_preload(self) -> Self {
        Self { preload: Vec::new(), ..self }
    }

    /// Preloads another library, after the others.
    pub fn preload(mut self, library: &str) -> Self {
        self.preload.push(library.into());
        self
    }

    /// Preloads another library, before the others.
    pub fn preload_before(mut self, library: &str) -> Self {
        self.preload.insert(0, library.into());
        self
    }

    /// Uses this document as the keyring file: another cluster's [`Cluster::keyring`], or a broken one.
    pub fn keyring(self, document: impl Into<Vec<u8>>) -> Self {
        Self { keys: Keys::File(document.into()), ..self }
    }

    /// Sets `keyring_command` in place of a file.
    pub fn keyring_command(self, command: &str) -> Self {
        Self { keys: Keys::Command(command.into()), ..self }
    }

    /// Has no keyring at all.
    pub fn without_keyring(self) -> Self {
        Self { keys: Keys::None, ..self }
    }

    /// Adds a line to `postgresql.conf`, which overrides the lines of the harness.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Adds a locale for each of these languages, by the names of
    /// [`crate::installation::Installation::languages`], for `lc_messages`.
    pub fn languages(self, languages: &[String]) -> Self {
        Self { languages: languages.to_vec(), ..self }
    }

    /// Limits the address space of each process of the server, as `ulimit -v` does.
    pub fn memory_kb(self, limit: u64) -> Self {
        Self { memory_kb: Some(limit), ..self }
    }

    /// Makes the cluster and starts its server.
    #[must_use]
    pub fn start(self) -> Cluster {
        Cluster::create(self)
    }
}
