//! What the tools answer.

use super::scene::{LIST, ORG, REMOVE, SET, Scene, modern, seal};
use crate::helpers::calls::{ANY, enable, register};
use serde_json::{Value, json};
use tests::{ADMIN, AUDITOR, OUTSIDER, READER};

#[tokio::test]
async fn tools_are_those_that_the_role_may_call() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let (admin, user) = (scene.key("admin").await, scene.key("user").await);
    let of_admin = [
        LIST,
        SET,
        REMOVE,
        "rotation_status",
        "admin_promote_integration_credentials",
        "admin_rollback_integration_credentials",
        "get_sealing_key",
    ];
    assert_eq!(served.tools(&admin).await, of_admin);
    assert_eq!(served.tools(&user).await, [LIST]);
    // A hidden tool that is called anyway.
    for tool in [SET, REMOVE, "get_sealing_key"] {
        let arguments = if tool == "get_sealing_key" { json!({}) } else { json!({"integration_key": ANY}) };
        let error = served.refused(&user, tool, arguments).await;
        assert_eq!(
            (&error["code"], &error["status"]),
            (&json!("forbidden_admin_scope"), &json!(403)),
            "{tool}"
        );
    }
    // A grant shows in the next list, and counts in the next call.
    let superuser = scene.database.superuser().await;
    let grant = |what| {
        format!(
            "{what} integration_credentials_auditor {} {}",
            if what == "GRANT" { "TO" } else { "FROM" },
            &user[..16]
        )
    };
    superuser.batch_execute(&grant("GRANT")).await.unwrap();
    assert_eq!(served.tools(&user).await, [LIST, "rotation_status", "read_audit_log"]);
    served.done(&user, "read_audit_log", json!({})).await;
    superuser.batch_execute(&grant("REVOKE")).await.unwrap();
    assert_eq!(served.tools(&user).await, [LIST]);
    assert_eq!(served.refused(&user, "read_audit_log", json!({})).await["code"], "forbidden_admin_scope");
}

#[tokio::test]
async fn the_roles_of_stdio_see_what_they_may_do() {
    let scene = Scene::new().await;
    for (role, expected) in [(ADMIN, 7), (READER, 2), (AUDITOR, 3), (OUTSIDER, 0)] {
        let mut server = super::stdio::Server::start(&scene, role);
        let answer = server.ask_modern("tools/list", json!({}), &json!({})).await;
        let tools =
            answer["result"]["tools"].as_array().unwrap_or_else(|| panic!("{answer} {}", server.stderr()));
        assert_eq!(tools.len(), expected, "{role}");
        let has_value = tools.iter().any(|tool| tool["inputSchema"]["properties"].get("value").is_some());
        assert!(!has_value, "{role}");
        assert_eq!(answer["result"]["cacheScope"], "private");
        assert_eq!(answer["result"]["ttlMs"], 60000);
        assert_eq!(server.end().await, 0);
    }
}

#[tokio::test]
async fn a_sealed_value_is_set_and_removed_with_receipts() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key_with("admin", ORG, &["--label", "provisioning"]).await;
    let sealed = served.seal(&key, "first").await;
    let receipt = served.done(&key, SET, json!({"integration_key": ANY, "sealed": sealed})).await;
    let fields: Vec<_> = receipt.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["hasCredentials", "isConfigured", "key", "updatedAt"]);
    assert_eq!((&receipt["key"], &receipt["hasCredentials"]), (&json!(ANY), &json!(true)));
    assert_eq!(scene.stored().await.as_deref(), Some("first"));
    let receipt = served.done(&key, REMOVE, json!({"integration_key": ANY})).await;
    assert_eq!((&receipt["isConfigured"], &receipt["hasCredentials"]), (&json!(true), &json!(false)));
    assert_eq!(
        served.refused(&key, REMOVE, json!({"integration_key": ANY})).await["code"],
        "credentials_not_set"
    );
    // The key is in the audit log as the role that nobody can fake.
    let superuser = scene.database.superuser().await;
    let rows = "SELECT DISTINCT actor, session_role FROM integration_credentials.webapp_org_admin_audit_log
                WHERE target_id = $1 AND action LIKE '%credentials'";
    let rows = superuser.query(rows, &[&ANY]).await.unwrap();
    let rows: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [("mcp:provisioning".to_owned(), key[..16].to_owned())]);
}

#[tokio::test]
async fn the_list_comes_in_pages_with_details_on_demand() {
    let scene = Scene::new().await;
    let rules = json!({"minLength": 3});
    let superuser = scene.database.superuser().await;
    superuser.batch_execute("TRUNCATE integration_credentials.integration_catalog CASCADE").await.unwrap();
    for number in 0..5 {
        register(&scene.admin, &format!("key-{number}"), rules.clone()).await.unwrap();
    }
    let served = scene.serve().await;
    let key = scene.key("user").await;
    let page = served.done(&key, LIST, json!({"limit": 2})).await;
    let keys = |page: &Value| -> Vec<String> {
        page["integrations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["key"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        (keys(&page), &page["next"], &page["org"]),
        (vec!["key-0".into(), "key-1".into()], &json!("key-1"), &json!(ORG))
    );
    assert!(page["integrations"][0].get("rules").is_none());
    let rest = served.done(&key, LIST, json!({"after": page["next"], "details": true})).await;
    assert_eq!(keys(&rest), ["key-2", "key-3", "key-4"]);
    assert!(rest.get("next").is_none());
    assert_eq!(rest["integrations"][0]["rules"], rules);
    let named = served.done(&key, LIST, json!({"keys": ["key-4", "nothing", "key-1"]})).await;
    assert_eq!(keys(&named), ["key-1", "key-4"]);
}

#[tokio::test]
async fn text_of_other_people_is_harmless() {
    let scene = Scene::new().await;
    let name = format!("A\u{1b}]0;x\u{7}\u{202e}B{}", "c".repeat(600));
    let register = "SELECT integration_credentials.admin_register_integration($1, $2, $3, '{}', NULL, $2)";
    scene.admin.execute(register, &[&"odd", &&name[..255], &"ann\u{1b}[2J"]).await.unwrap();
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let page = served.done(&key, LIST, json!({"keys": ["odd"], "details": true})).await;
    for field in ["displayName", "example"] {
        let text = page["integrations"][0][field].as_str().unwrap();
        assert!(text.starts_with("A]0;xB") && !text.contains(char::is_control), "{text:?}");
    }
    let superuser = scene.database.superuser().await;
    superuser
        .batch_execute(&format!("GRANT integration_credentials_auditor TO {}", &key[..16]))
        .await
        .unwrap();
    let log = served.done(&key, "read_audit_log", json!({"limit": 1})).await;
    assert_eq!(log["rows"][0]["actor"], "ann[2J");
}

#[tokio::test]
async fn the_audit_log_comes_in_pages() {
    let scene = Scene::new().await;
    for number in 0..4 {
        register(&scene.admin, &format!("key-{number}"), json!({})).await.unwrap();
    }
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let superuser = scene.database.superuser().await;
    superuser
        .batch_execute(&format!("GRANT integration_credentials_auditor TO {}", &key[..16]))
        .await
        .unwrap();
    let page = served.done(&key, "read_audit_log", json!({"limit": 2})).await;
    let targets: Vec<_> = page["rows"].as_array().unwrap().iter().map(|row| row["target"].clone()).collect();
    assert_eq!(targets, ["key-3", "key-2"]);
    let page = served.done(&key, "read_audit_log", json!({"limit": 2, "before_id": page["next"]})).await;
    assert_eq!(page["rows"][0]["target"], "key-1");
    // A row has no more than this.
    let fields: Vec<_> = page["rows"][0].as_object().unwrap().keys().collect();
    assert_eq!(fields, ["action", "actor", "at", "id", "metadata", "role", "target"]);
}

#[tokio::test]
async fn orgs_do_not_see_each_other() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let (ours, theirs) = (scene.key("admin").await, scene.key_with("admin", "globex", &[]).await);
    let sealed = served.seal(&ours, "ours").await;
    served.done(&ours, SET, json!({"integration_key": ANY, "sealed": sealed.clone()})).await;
    let list = served.done(&theirs, LIST, json!({"keys": [ANY]})).await;
    assert_eq!((&list["org"], &list["integrations"][0]["revision"]), (&json!("globex"), &json!(0)));
    // Sealed for another key of the same org, and for another org.
    let neighbour = scene.key("admin").await;
    for other in [&theirs, &neighbour] {
        let error = served.refused(other, SET, json!({"integration_key": ANY, "sealed": sealed})).await;
        assert_eq!(error["code"], "invalid_request");
    }
    // For another integration.
    register(&scene.admin, "other", json!({})).await.unwrap();
    let terms = served.done(&ours, "get_sealing_key", json!({})).await;
    let elsewhere = seal(&terms, "other", "x");
    assert_eq!(
        served.refused(&ours, SET, json!({"integration_key": ANY, "sealed": elsewhere})).await["code"],
        "invalid_request"
    );
    assert_eq!(scene.revision().await, 1);
}

#[tokio::test]
async fn rotations_are_shown_promoted_and_rolled_back() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let of_any = json!({"integration_key": ANY});
    assert_eq!(
        served.refused(&key, "admin_promote_integration_credentials", of_any.clone()).await["code"],
        "credentials_not_set"
    );
    for (value, stage) in [("first", "{}"), ("second", r#"{"stage": true}"#)] {
        let sql = "SELECT integration_credentials.admin_set_integration_credentials($1, $2, 'actor', $3::text::jsonb)";
        scene.admin.execute(sql, &[&ANY, &value, &stage]).await.unwrap();
    }
    let status = served.done(&key, "rotation_status", of_any.clone()).await;
    assert_eq!(status["rotations"][0]["state"], "staged");
    let wrong = served
        .refused(
            &key,
            "admin_promote_integration_credentials",
            json!({"integration_key": ANY, "expected_revision": 7}),
        )
        .await;
    assert_eq!((&wrong["code"], &wrong["status"]), (&json!("revision_conflict"), &json!(409)));
    served
        .done(
            &key,
            "admin_promote_integration_credentials",
            json!({"integration_key": ANY, "expected_revision": 1}),
        )
        .await;
    assert_eq!(scene.stored().await.as_deref(), Some("second"));
    served.done(&key, "admin_rollback_integration_credentials", of_any).await;
    assert_eq!(scene.stored().await.as_deref(), Some("first"));
    // Two callers who both saw revision 3.
    for expected in [Some("third"), None] {
        let sealed = served.seal(&key, expected.unwrap_or("fourth")).await;
        let result = served
            .call(&key, SET, json!({"integration_key": ANY, "sealed": sealed, "expected_revision": 3}))
            .await;
        assert_eq!(result["isError"], expected.is_none(), "{result}");
    }
    assert_eq!(scene.stored().await.as_deref(), Some("third"));
}

#[tokio::test]
async fn what_the_server_refuses_has_its_code_and_status() {
    let scene = Scene::new().await;
    register(&scene.admin, "off", json!({})).await.unwrap();
    enable(&scene.admin, "off", false).await.unwrap();
    register(&scene.admin, "strict", json!({"prefix": "sk-"})).await.unwrap();
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let terms = served.done(&key, "get_sealing_key", json!({})).await;
    for (integration, code, status) in [
        ("off", "integration_disabled", 400),
        ("strict", "invalid_credentials", 400),
        ("nothing", "integration_not_found", 404),
    ] {
        let sealed = seal(&terms, integration, "hunter2");
        let error =
            served.refused(&key, SET, json!({"integration_key": integration, "sealed": sealed})).await;
        assert_eq!((&error["code"], &error["status"]), (&json!(code), &json!(status)), "{error}");
        if integration != "strict" {
            // So that nobody types for nothing.
            assert_eq!(
                served.refused(&key, SET, json!({"integration_key": integration})).await["code"],
                code
            );
        }
    }
    let metered =
        "SELECT count(*) FROM integration_credentials.tool_metering WHERE outcome = 'invalid_credentials'";
    assert_eq!(scene.database.superuser().await.query_one(metered, &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_failed_sync_is_an_error_with_the_receipt() {
    let scene = Scene::new().await;
    let superuser = scene.database.superuser().await;
    let owner = format!("{}_owner", scene.database.name());
    superuser
        .batch_execute(&format!(
            "CREATE ROLE {owner}; CREATE SCHEMA app AUTHORIZATION {owner}; SET ROLE {owner};
             CREATE FUNCTION app.sync(org_slug text, key text, value text) RETURNS void LANGUAGE plpgsql
                 AS $$ BEGIN RAISE EXCEPTION 'the aggregator is down'; END $$;
             RESET ROLE;
             SELECT integration_credentials.register_sync_handler('{ANY}', 'app.sync(text, text, text)')"
        ))
        .await
        .unwrap();
    let served = scene.serve().await;
    let key = scene.key("admin").await;
    let sealed = served.seal(&key, "value").await;
    let result = served.call(&key, SET, json!({"integration_key": ANY, "sealed": sealed})).await;
    assert_eq!(result["isError"], true);
    let object = &result["structuredContent"];
    assert_eq!(
        (&object["hasCredentials"], &object["error"]["code"]),
        (&json!(true), &json!("tool_setup_failed"))
    );
    assert_eq!(scene.stored().await.as_deref(), Some("value"));
}

#[tokio::test]
async fn every_protocol_is_spoken_and_the_oldest_is_not() {
    let scene = Scene::new().await;
    let served = scene.serve().await;
    let key = scene.key("user").await;
    let discovered = served.ask(&key, "server/discover", json!({})).await;
    let versions = ["2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"];
    assert_eq!(discovered["result"]["supportedVersions"], json!(versions), "{discovered}");
    for (asked, answered) in [
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2024-11-05", "2025-11-25"),
    ] {
        let result = super::stdio::Server::start(&scene, ADMIN).initialize(asked, json!({})).await;
        assert_eq!(result["protocolVersion"], answered);
        assert!(
            result["capabilities"].get("prompts").is_none() && result["capabilities"]["tools"].is_object()
        );
        let client = json!({"name": "test", "version": "1"});
        let params = json!({"protocolVersion": asked, "capabilities": {}, "clientInfo": client});
        let request = super::http::Request::mcp(
            &json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}),
        );
        let answer = served.send(&request.key(&key)).await;
        assert_eq!(
            (answer.status, &answer.json()["result"]["protocolVersion"]),
            (200, &json!(answered)),
            "{answer:?}"
        );
        assert_eq!(answer.header("mcp-session-id"), None);
    }
    let unknown = served.ask(&key, "tools/call", json!({"name": "hunter2", "arguments": {}})).await;
    assert_eq!(unknown["error"]["code"], -32602);
    assert!(!unknown.to_string().contains("hunter2"));
    let unknown = served.send(&modern("prompts/list", json!({})).key(&key)).await;
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (404, &json!(-32601)));
}
