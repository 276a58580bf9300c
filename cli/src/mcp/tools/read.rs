//! The tools that change nothing.

use super::{
    super::{
        callers::{Caller, in_time},
        refusal::Refusal,
        text::{clean, clean_json},
    },
    Answer,
    arguments::{self, AuditLog, List, Nothing, Status, parse},
};
use intcred::{AuditEntry, Description, Integration, internal::IntegrationPage};
use rmcp::model::JsonObject;
use serde_json::{Map, Value, json};

/// Longer rules are left out of a list.
const MAX_RULES: usize = 4 << 10;

pub async fn list(caller: &Caller, given: JsonObject) -> Result<Answer, Refusal> {
    let asked: List = parse(given)?;
    asked.check()?;
    in_time(async {
        let connection = caller.connect().await?;
        let answer = async {
            // One more, to know whether there are more.
            let page = IntegrationPage {
                keys: asked.keys.as_deref(),
                after: asked.after.as_deref(),
                limit: asked.limit + 1,
            };
            let mut rows = connection.list_page(page).await?;
            let has_more = rows.len() > asked.limit as usize;
            rows.truncate(asked.limit as usize);
            let mut details = Vec::new();
            if asked.details && !rows.is_empty() {
                let keys: Vec<_> = rows.iter().map(|row| row.key.as_str()).collect();
                details = connection.describe_keys(&keys).await?;
            }
            Ok((rows, details, has_more))
        };
        let answer = answer.await;
        let org = connection.identity().org.clone();
        let (rows, details, has_more) = connection.finish(answer)?;
        let mut object = json!({ "org": clean(&org) });
        if has_more && let Some(last) = rows.last() {
            object["next"] = last.key.as_str().into();
        }
        object["integrations"] = rows.iter().map(|row| integration(row, &details)).collect();
        Ok(Answer::done(object))
    })
    .await
}

/// A row. The key is not cleaned, because callers name the integration by it.
fn integration(row: &Integration, details: &[Description]) -> Value {
    let Integration {
        key,
        display_name,
        is_enabled,
        is_configured,
        has_credentials,
        revision,
        updated_at,
        ..
    } = row;
    let mut object = json!({
        "key": key, "displayName": clean(display_name), "isEnabled": is_enabled, "isConfigured": is_configured,
        "hasCredentials": has_credentials, "revision": revision, "updatedAt": updated_at,
    });
    if let Some(Description { docs_url, example, rules, .. }) = details.iter().find(|row| row.key == *key) {
        let rules = Some(rules).filter(|rules| has_content(rules) && rules.to_string().len() <= MAX_RULES);
        let fields = [
            ("rules", rules.cloned().map(clean_json)),
            ("docsUrl", docs_url.as_deref().map(|url| clean(url).into())),
            ("example", example.as_deref().map(|example| clean(example).into())),
        ];
        for (name, field) in fields {
            if let Some(field) = field {
                object[name] = field;
            }
        }
    }
    object
}

fn has_content(rules: &Value) -> bool {
    rules.as_object().is_some_and(|rules| !rules.is_empty())
}

pub async fn rotation_status(caller: &Caller, given: JsonObject) -> Result<Answer, Refusal> {
    let Status { integration_key } = parse(given)?;
    integration_key.as_deref().map_or(Ok(()), arguments::key)?;
    in_time(async {
        let connection = caller.connect().await?;
        let rows = connection.rotation_status(integration_key.as_deref()).await;
        let mut rows = connection.finish(rows)?;
        let left_out = rows.len().saturating_sub(200);
        rows.truncate(200);
        let rotations =
            serde_json::to_value(rows).map_err(|_| Refusal::unavailable("the answer has no JSON"))?;
        let mut object = json!({ "rotations": clean_json(rotations) });
        if left_out > 0 {
            object["leftOut"] = left_out.into();
        }
        Ok(Answer::done(object))
    })
    .await
}

pub async fn sealing_key(caller: &Caller, given: JsonObject) -> Result<Answer, Refusal> {
    let Nothing {} = parse(given)?;
    in_time(async {
        let connection = caller.connect().await?;
        let key = connection.sealing_key().await;
        let key = connection.finish(key)?;
        Ok(Answer::done(serde_json::to_value(key).map_err(|_| Refusal::unavailable("the key has no JSON"))?))
    })
    .await
}

pub async fn audit_log(caller: &Caller, given: JsonObject) -> Result<Answer, Refusal> {
    let AuditLog { limit, before_id } = parse(given)?;
    arguments::limit(limit, 100)?;
    in_time(async {
        let connection = caller.connect().await?;
        let rows = connection.audit_page(limit + 1, before_id).await;
        let mut rows = connection.finish(rows)?;
        let mut object = Map::new();
        if rows.len() > limit as usize {
            rows.truncate(limit as usize);
            object.extend(rows.last().map(|last| ("next".to_owned(), last.id.into())));
        }
        object.insert("rows".to_owned(), rows.into_iter().map(audited).collect());
        Ok(Answer::done(object.into()))
    })
    .await
}

fn audited(row: AuditEntry) -> Value {
    let AuditEntry { id, actor, session_role, action, target_id, metadata, created_at, .. } = row;
    json!({
        "id": id, "at": created_at, "actor": clean(&actor), "role": clean(&session_role), "action": clean(&action),
        "target": clean(&target_id), "metadata": clean_json(metadata),
    })
}
