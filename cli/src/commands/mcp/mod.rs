//! `intcred mcp`

mod key;

use crate::{
    cli::Mcp,
    cli_error::CliError,
    context::Context,
    mcp::{Options, serve_http, serve_stdio},
};
use intcred::os_user;

pub async fn run(context: &Context, given: Mcp) -> Result<(), CliError> {
    if let Some(command) = given.command {
        return command.run(context).await;
    }
    let settings = context.settings()?;
    let Some(address) = given.http else {
        let user = os_user().ok_or_else(|| CliError::usage("your user has no name", "give the user one"))?;
        return serve_stdio(settings, user).await;
    };
    let pepper_file = given.pepper_file.ok_or_else(|| {
        CliError::usage("--http needs --pepper-file", "give the file that `intcred mcp key add` was given")
    })?;
    let options = Options {
        address,
        public_url: given.public_url,
        pepper_file,
        tls: given.tls_cert.zip(given.tls_key),
        behind_proxy: given.behind_proxy,
        allow_origin: given.allow_origin,
        calls_per_second: given.calls_per_second,
    };
    serve_http(settings, options).await
}
