//! The tools. Each is listed if, and only if, the caller's role may execute the function behind it.
//!
//! | module | concept |
//! | --- | --- |
//! | `schema` | what a client reads about the tools |
//! | `arguments` | what a client may give |
//! | `answers` | what a client gets |
//! | `read` | the tools that change nothing |
//! | `write` | the tools that change something |

mod answers;
mod arguments;
mod read;
mod schema;
mod write;

pub use answers::{Answer, receipt, receipt_of_row};
pub use schema::definition;

use super::{callers::Caller, entry::Entries, refusal::Refusal};
use intcred::internal::Rights;
use rmcp::{RoleServer, model::CallToolRequestParams, service::RequestContext};

/// A tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    List,
    Set,
    Remove,
    Status,
    Promote,
    Rollback,
    SealingKey,
    Audit,
}

impl Tool {
    /// In the order of the list.
    pub const ALL: [Self; 8] = [
        Self::List,
        Self::Set,
        Self::Remove,
        Self::Status,
        Self::Promote,
        Self::Rollback,
        Self::SealingKey,
        Self::Audit,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::List => "list_integrations",
            Self::Set => "admin_set_integration_credentials",
            Self::Remove => "admin_remove_integration_credentials",
            Self::Status => "rotation_status",
            Self::Promote => "admin_promote_integration_credentials",
            Self::Rollback => "admin_rollback_integration_credentials",
            Self::SealingKey => "get_sealing_key",
            Self::Audit => "read_audit_log",
        }
    }

    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// The function behind the tool; `None` for the view of the audit log.
    const fn function(self) -> Option<&'static str> {
        Some(match self {
            Self::List => "integration_credentials.list_integrations(text[])",
            Self::Set => {
                "integration_credentials.admin_set_integration_credentials_sealed(text, bytea, text, jsonb)"
            }
            Self::Remove => "integration_credentials.admin_remove_integration_credentials(text, text)",
            Self::Status => "integration_credentials.rotation_status(text)",
            Self::Promote => {
                "integration_credentials.admin_promote_integration_credentials(text, text, bigint)"
            }
            Self::Rollback => {
                "integration_credentials.admin_rollback_integration_credentials(text, text, bigint)"
            }
            Self::SealingKey => "integration_credentials.sealing_key()",
            Self::Audit => return None,
        })
    }
}

/// What a caller may do.
pub struct Allowed {
    pub tools: Vec<Tool>,
    /// Whether a value may be given in the clear.
    pub values: bool,
}

/// Asks Postgres what the caller may do now.
pub async fn allowed(caller: &Caller) -> Result<Allowed, Refusal> {
    let with_function: Vec<_> =
        Tool::ALL.into_iter().filter_map(|tool| Some((tool, tool.function()?))).collect();
    let functions: Vec<_> = with_function.iter().map(|(_, function)| *function).collect();
    let connection = caller.connect().await?;
    let rights = connection.rights(&functions).await;
    let Rights { functions, audit_log, values } = connection.finish(rights)?;
    let may = |tool: &Tool| {
        let position = with_function.iter().position(|(with, _)| with == tool);
        position.map_or(audit_log, |position| functions.get(position) == Some(&true))
    };
    Ok(Allowed { tools: Tool::ALL.into_iter().filter(may).collect(), values })
}

/// Runs a tool.
pub async fn call(
    tool: Tool,
    caller: &Caller,
    entries: &Entries,
    request: CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<Answer, Answer> {
    caller.allowance.begin()?;
    let given = request.arguments.clone().unwrap_or_default();
    Ok(match tool {
        Tool::List => read::list(caller, given).await?,
        Tool::Status => read::rotation_status(caller, given).await?,
        Tool::SealingKey => read::sealing_key(caller, given).await?,
        Tool::Audit => read::audit_log(caller, given).await?,
        Tool::Set => return write::set(caller, entries, request, given, context).await,
        Tool::Remove => write::remove(caller, given).await?,
        Tool::Promote => write::promote(caller, given).await?,
        Tool::Rollback => write::rollback(caller, given).await?,
    })
}
