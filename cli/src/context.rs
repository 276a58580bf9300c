//! The context of each command: connection settings and output.

use crate::{
    cli::{Actor, Cli},
    cli_error::CliError,
    output::Output,
    terminal::log_line,
};
use intcred::{Client, Notice, Settings, os_user};

pub struct Context {
    dsn: Option<String>,
    pub output: Output,
}

impl Context {
    pub fn new(cli: &Cli) -> Self {
        Self { dsn: cli.dsn.clone(), output: Output::new(cli.json, cli.color) }
    }

    pub fn settings(&self) -> Result<Settings, CliError> {
        let settings = Settings::resolve(self.dsn.as_deref())?;
        for warning in settings.warnings() {
            log_line("intcred: warning", warning);
        }
        Ok(settings)
    }

    pub async fn connect(&self) -> Result<Client, CliError> {
        connect(&self.settings()?).await
    }
}

pub async fn connect(settings: &Settings) -> Result<Client, CliError> {
    let on_notice = |Notice { severity, message }: Notice| {
        log_line(&format!("intcred: {}", severity.to_lowercase()), &message);
    };
    Ok(Client::connect(settings, on_notice).await?)
}

impl Actor {
    pub fn name(self) -> Result<String, CliError> {
        self.name
            .or_else(os_user)
            .ok_or_else(|| CliError::usage("your user has no name", "name the actor with --actor"))
    }
}
