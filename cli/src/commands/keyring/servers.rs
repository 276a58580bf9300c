//! The keys that each server of the DSN has, and those that its databases need.

use crate::{
    cli_error::CliError,
    context::{Context, connect},
    terminal::log_line,
};
use intcred::{KeyUsage, ServerKey, Settings};

/// A server that the DSN names.
pub struct Server {
    /// Its host and port, or its socket.
    pub name: String,
    /// The keys of its keyring.
    pub keys: Vec<ServerKey>,
    is_standby: bool,
    databases: Vec<String>,
    settings: Settings,
}

/// A database, and the keys that it needs.
pub struct Needs {
    /// Its name.
    pub database: String,
    /// The keys.
    pub keys: Vec<KeyUsage>,
}

/// Asks every server that the DSN names. A server that does not answer is an error: it may lack a key.
pub async fn ask(context: &Context) -> Result<Vec<Server>, CliError> {
    let mut servers = Vec::new();
    let mut fed = 0;
    for (name, settings) in context.settings()?.servers() {
        let client = connect(&settings).await?;
        let keys = client.keyring_status().await?;
        let is_standby = client.is_standby().await?;
        let databases = client.databases().await?;
        fed += client.standbys().await?;
        client.close().await;
        servers.push(Server { name, keys, is_standby, databases, settings });
    }
    let asked = servers.iter().filter(|server| server.is_standby).count();
    if i64::try_from(asked).is_ok_and(|asked| asked < fed) {
        let warning = format!(
            "{fed} standby(s) follow these servers, and the DSN names {asked}: name every host in the DSN"
        );
        log_line("intcred: warning", &warning);
    }
    Ok(servers)
}

impl Server {
    /// The key of this id.
    pub fn find(&self, id: &str) -> Option<&ServerKey> {
        self.keys.iter().find(|key| key.key_id == id)
    }

    /// Has every session read the keyring again before its next statement. A connection that is made afterwards,
    /// as by [`Self::needs`], begins after the postmaster has told the sessions.
    pub async fn reload(&self) -> Result<(), CliError> {
        let client = connect(&self.settings).await?;
        client.reload_configuration().await?;
        client.close().await;
        Ok(())
    }

    /// The keys that the databases of this server need. On a primary, `is_settled` waits for transactions that
    /// have written a credential.
    pub async fn needs(&self, is_settled: bool) -> Result<Vec<Needs>, CliError> {
        let mut needs = Vec::new();
        for database in &self.databases {
            let client = connect(&self.settings.with_dbname(database)).await?;
            if client.has_extension().await? {
                let keys = client.key_usage(is_settled && !self.is_standby).await;
                let keys = keys.inspect_err(|_| {
                    log_line(
                        "intcred",
                        &format!("the keys that database {database} needs cannot be counted"),
                    );
                })?;
                needs.push(Needs { database: database.clone(), keys });
            }
            client.close().await;
        }
        Ok(needs)
    }
}
