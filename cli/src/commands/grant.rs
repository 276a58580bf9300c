//! `intcred grant`

use crate::{cli, cli_error::CliError, context::Context};
use intcred::Group;
use serde_json::json;

pub async fn run(context: &Context, membership: Option<(String, cli::Group)>) -> Result<(), CliError> {
    let groups = Group::ALL.map(Group::role);
    let client = context.connect().await?;
    client.create_group_roles().await?;
    let membership = membership.map(|(role, group)| (role, group.into()));
    if let Some((role, group)) = &membership {
        client.grant_membership(role, *group).await?;
    }
    client.close().await;
    match membership {
        None => context
            .output
            .print(&json!({"groups": groups}), |_| format!("group roles: {}", groups.join(", "))),
        Some((role, group)) => {
            let group: Group = group;
            context.output.print(&json!({"groups": groups, "role": role, "memberOf": group.role()}), |_| {
                format!("{role}: member of {}", group.role())
            })
        }
    }
}

impl From<cli::Group> for Group {
    fn from(group: cli::Group) -> Self {
        match group {
            cli::Group::Admin => Self::Admin,
            cli::Group::Reader => Self::Reader,
            cli::Group::Auditor => Self::Auditor,
            cli::Group::Lister => Self::Lister,
        }
    }
}
