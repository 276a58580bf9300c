//! A hot standby: a copy of a running cluster that follows it.

use crate::{Cluster, database::SUPERUSER, process::succeed};

impl Cluster {
    /// Copies this cluster, with its keyring, and starts the copy as a hot standby that follows this one. Databases are
    /// found by [`Cluster::named_database`].
    #[must_use]
    pub fn standby(&self) -> Self {
        let mut standby = Self::nowhere(self.installation.clone(), self.port);
        succeed(
            self.installation
                .command("pg_basebackup", &standby.dir)
                .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--username", SUPERUSER])
                .arg("--host")
                .arg(&self.dir)
                .args(["--port", &self.port.to_string(), "--pgdata"])
                .arg(standby.data_dir()),
        );
        let keyring = standby.keyring_file();
        self.installation.write_private(&keyring, &self.keyring()).expect("the keyring is copied");
        let settings = [
            ("listen_addresses".into(), String::new()),
            ("unix_socket_directories".into(), standby.dir.display().to_string()),
            ("integration_credentials.keyring_file".into(), keyring.display().to_string()),
        ];
        standby.configure(&settings).expect("the settings are written");
        standby.start();
        standby
    }
}
