//! `intcred find`: which credentials have a value.

use crate::{
    command_line::{Terminal, assert_fails, database, intcred_as},
    helpers::{
        calls::{ANY, register, set},
        fixture::assert_unlogged,
    },
};
use serde_json::{Value, json};
use tests::{ADMIN, Canary, Database, Output, SUPERUSER, run};

async fn find(database: &Database, role: &str, value: &str) -> Output {
    run(&mut intcred_as(database, role, &["--json", "find", "--actor", "ann"]), value.as_bytes()).await
}

fn rows(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Nothing found, which a program tells from an error.
#[track_caller]
fn assert_not_found(output: &Output) {
    assert_eq!((output.code, output.stdout.as_str()), (1, "[]\n"), "{output:?}");
    assert_eq!(output.stderr, "intcred: no credential has this value\n");
}

#[tokio::test]
async fn value_is_found_as_current_previous_and_pending() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let (leaked, other) = (Canary::new(), Canary::new());
    register(&admin, "second", json!({})).await.unwrap();
    register(&admin, "third", json!({})).await.unwrap();
    assert_not_found(&find(&database, ADMIN, leaked.as_str()).await);

    let org = database.name();
    let row = |key: &str, which: &str, revision: Option<i64>| json!({"org": org, "key": key, "which": which, "revision": revision});
    set(&admin, ANY, leaked.as_str()).await.unwrap();
    let found = find(&database, ADMIN, &format!("{leaked}\n")).await;
    assert_eq!((found.code, rows(&found)), (0, json!([row(ANY, "current", Some(1))])));
    set(&admin, ANY, other.as_str()).await.unwrap();
    set(&admin, "second", leaked.as_str()).await.unwrap();
    let mut stage = intcred_as(&database, ADMIN, &["set", "third", "--stage"]);
    assert_eq!(run(&mut stage, leaked.as_str().as_bytes()).await.code, 0);
    let found = find(&database, ADMIN, leaked.as_str()).await;
    let expected = json!([
        row(ANY, "previous", Some(1)),
        row("second", "current", Some(1)),
        row("third", "pending", None)
    ]);
    assert_eq!((found.code, rows(&found)), (0, expected));
    assert_not_found(&find(&database, ADMIN, &format!("{leaked}x")).await);

    // For people, a table; on standard output, so that nothing found is nothing there.
    let mut command = intcred_as(&database, ADMIN, &["find"]);
    let table = run(&mut command, leaked.as_str().as_bytes()).await.success();
    assert!(table.starts_with("ORG "), "{table}");
    assert_eq!(table.lines().count(), 4);
    let nothing = run(&mut intcred_as(&database, ADMIN, &["find"]), b"never set").await;
    assert_fails(&nothing, 1, "no credential has this value");

    // The audit log knows of the search and nothing of the value.
    let superuser = database.superuser().await;
    let audited = "SELECT actor, count(*) FROM integration_credentials.webapp_org_admin_audit_log
                   WHERE action = 'find_integration_credentials' GROUP BY actor ORDER BY count(*) DESC";
    let audited = superuser.query(audited, &[]).await.unwrap();
    assert_eq!((audited[0].get::<_, &str>(0), audited[0].get::<_, i64>(1)), ("ann", 4));
    let all = "SELECT coalesce(string_agg(row::text, ' '), '') FROM (
        SELECT to_jsonb(a) AS row FROM integration_credentials.webapp_org_admin_audit_log a
        UNION ALL SELECT to_jsonb(m) FROM integration_credentials.tool_metering m) r";
    let all: String = superuser.query_one(all, &[]).await.unwrap().get(0);
    for canary in [&leaked, &other] {
        canary.assert_absent(&all);
        canary.assert_absent(&(&found, &table));
        assert_unlogged(canary);
    }
}

#[tokio::test]
async fn admin_finds_in_the_own_org_and_a_superuser_in_all() {
    let database = database().await;
    let leaked = Canary::new();
    let mut orgs = Vec::new();
    for org in ["acme", "globex"] {
        database.set_role_org(ADMIN, org).await;
        set(&database.connect(ADMIN).await, ANY, leaked.as_str()).await.unwrap();
        orgs.push(json!({"org": org, "key": ANY, "which": "current", "revision": 1}));
    }
    assert_eq!(rows(&find(&database, ADMIN, leaked.as_str()).await), json!([orgs[1]]));
    assert_eq!(rows(&find(&database, SUPERUSER, leaked.as_str()).await), json!(orgs));
}

#[tokio::test]
async fn value_to_find_is_asked_for_and_not_shown() {
    let database = database().await;
    let leaked = Canary::new();
    set(&database.connect(ADMIN).await, ANY, leaked.as_str()).await.unwrap();
    let mut terminal = Terminal::start(&intcred_as(&database, ADMIN, &["find"]));
    terminal.answer("Value: ", &format!("{leaked}\n")).await;
    terminal.answer("Again: ", &format!("{leaked}\n")).await;
    let (code, shown) = terminal.end().await;
    assert!(code == 0 && shown.contains("current"), "{shown}");
    leaked.assert_absent(&shown);
}

#[tokio::test]
async fn value_as_an_argument_is_refused_and_not_echoed() {
    let database = database().await;
    let leaked = Canary::new();
    for arguments in [
        &["find", leaked.as_str()][..],
        &["find", "--", leaked.as_str()],
        &["find", "--value", leaked.as_str()],
    ] {
        let output = run(&mut intcred_as(&database, ADMIN, arguments), b"").await;
        assert_eq!((output.code, output.stdout.as_str()), (2, ""), "{output:?}");
        leaked.assert_absent(&output);
    }
}
