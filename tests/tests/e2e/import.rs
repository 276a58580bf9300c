//! `intcred import`: the credentials of a file, all of them or none.

use crate::{
    command_line::{Terminal, assert_fails, database, intcred_as},
    helpers::{
        calls::{ANY, get, register, set},
        fixture::assert_unlogged,
    },
};
use serde_json::{Value, json};
use std::fs;
use tests::{ADMIN, Canary, Database, Output, READER, run};

async fn import(database: &Database, arguments: &[&str], file: &str) -> Output {
    run(&mut intcred_as(database, ADMIN, &[&["import"], arguments].concat()), file.as_bytes()).await
}

async fn value(database: &Database, key: &str) -> String {
    get(&database.connect(READER).await, key).await.unwrap()
}

/// With a second integration that takes any value, and one with a rule.
async fn with_keys() -> Database {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, "second", json!({})).await.unwrap();
    register(&admin, "strict", json!({"prefix": "good"})).await.unwrap();
    database
}

/// Everything that an import could change.
async fn stored(database: &Database) -> String {
    let rows = "SELECT coalesce(string_agg(row::text, ' ' ORDER BY row::text), '') FROM (
        SELECT to_jsonb(c) AS row FROM integration_credentials.configured_integrations c
        UNION ALL SELECT to_jsonb(a) FROM integration_credentials.webapp_org_admin_audit_log a) r";
    database.superuser().await.query_one(rows, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn env_file_sets_every_name_or_those_that_are_mapped() {
    let database = with_keys().await;
    let file =
        "# tokens\nexport any='a # $HOME'\r\nsecond=\"line 1\nline 2\\n\"\nstrict = good-1 # as it is\n";
    let output = import(&database, &["-", "--actor", "ann"], file).await;
    assert_eq!(
        output.stderr,
        "intcred: 1/3 credentials set, none committed yet\n\
        intcred: 2/3 credentials set, none committed yet\nintcred: 3/3 credentials set, none committed yet\n"
    );
    let text = output.success();
    assert!(text.starts_with("any: saved at 2") && text.lines().count() == 3, "{text}");
    for (key, expected) in [(ANY, "a # $HOME"), ("second", "line 1\nline 2\n"), ("strict", "good-1")] {
        assert_eq!(value(&database, key).await, expected);
    }
    let mapped = "PORT=8080\nTOKEN=another\nDEBUG=\n";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".env");
    fs::write(&path, mapped).unwrap();
    let output = import(&database, &[path.to_str().unwrap(), "--map", "TOKEN=any", "--json"], "").await;
    let receipts: Value = serde_json::from_str(&output.success()).unwrap();
    assert_eq!((receipts.as_array().unwrap().len(), &receipts[0]["key"]), (1, &json!(ANY)));
    assert_eq!(value(&database, ANY).await, "another");
    assert_eq!(value(&database, "second").await, "line 1\nline 2\n");
    // Each in the audit log, as of a set.
    let audited = "SELECT count(*) FROM integration_credentials.webapp_org_admin_audit_log
                   WHERE action = 'set_integration_credentials' AND actor = 'ann'";
    let audited: i64 = database.superuser().await.query_one(audited, &[]).await.unwrap().get(0);
    assert_eq!(audited, 3);
}

#[tokio::test]
async fn json_is_an_object_or_the_list_joined_with_values() {
    let database = with_keys().await;
    let output = import(&database, &["-"], r#"{"any": "1", "strict": "good\n"}"#).await;
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(
        (value(&database, ANY).await, value(&database, "strict").await),
        ("1".into(), "good\n".into())
    );

    let list = run(&mut intcred_as(&database, ADMIN, &["list", "--json"]), b"").await.success();
    let mut list: Value = serde_json::from_str(&list).unwrap();
    for row in list.as_array_mut().unwrap() {
        if row["key"] == ANY {
            row["value"] = json!("2");
        }
    }
    let output = import(&database, &["-"], &list.to_string()).await;
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(
        (value(&database, ANY).await, value(&database, "strict").await),
        ("2".into(), "good\n".into())
    );
}

#[tokio::test]
async fn import_that_is_refused_names_key_and_rule_and_changes_nothing() {
    let database = with_keys().await;
    set(&database.connect(ADMIN).await, ANY, "before").await.unwrap();
    let before = stored(&database).await;
    let canary = Canary::new();
    let secret = canary.as_str();
    for (arguments, file, code, message) in [
        (
            &["-"][..],
            format!("any={secret}\nstrict={secret}\n"),
            1,
            "strict (line 2): the value does not begin with \"good\"",
        ),
        (
            &["-"],
            format!("any={secret}\n{secret}=x\n"),
            1,
            "line 2: the catalog has no integration with this key",
        ),
        (
            &["-"],
            format!("any={secret}\nslack={secret}\nsecond=another"),
            1,
            "slack (line 2): the value does not match",
        ),
        (&["-"], format!("any={secret}\nsecond=\n"), 2, "line 2: the value is empty"),
        (&["-"], format!("any={secret}\n{secret}\n"), 2, "line 2: invalid syntax"),
        (&["-"], format!("any=1\nsecond='{secret}\n\n"), 2, "line 2: unterminated quote"),
        (&["-"], format!("any=1\nsecond={secret}#{secret}\n"), 2, "line 2: # would begin a comment"),
        (&["-"], format!("{{\"any\": \"{secret}\", \"second\": x{secret}}}"), 2, "line 1: it is not JSON"),
        (
            &["-"],
            format!("{{\"any\":\n{{\"{secret}\": 1}}}}"),
            2,
            "line 2: it is no object of keys and texts",
        ),
        (
            &["-"],
            format!("{{\"any\": \"{secret}\", \"strict\": \"{secret}\"}}"),
            1,
            "strict (entry 2): the value does not",
        ),
        (
            &["-"],
            format!("{{\"any\": \"{secret}\", \"any\": \"{secret}\"}}"),
            2,
            "entry 2: another entry sets the same key",
        ),
        (&["-"], String::new(), 2, "the file has no values"),
        (&["-"], "[]".to_owned(), 2, "the file has no values"),
        (&["-"], "any=nul\\0".replace("\\0", "\0"), 2, "line 1: the value has a NUL"),
        (
            &["-", "--map", "TOKEN=any"],
            format!("any={secret}"),
            2,
            "the file does not have the name of --map number 1",
        ),
        (&["-", "--map", "A=any", "--map", "A=second"], format!("A={secret}"), 2, "--map number 2"),
        (
            &["-", "--map", "A=any", "--map", "B=any"],
            format!("A={secret}\nB=x"),
            2,
            "line 2: another entry sets the same key",
        ),
        (&["-", "--map", secret], format!("A={secret}"), 2, "see --help"),
        (&["nowhere/.env"], String::new(), 2, "No such file"),
        (&["-"], format!("any={}\nsecond=another", "x".repeat(8193)), 1, "line 1: value has 8193 characters"),
    ] {
        let output = import(&database, arguments, &file).await;
        let stderr: Vec<_> =
            output.stderr.lines().filter(|line| !line.contains("none committed yet")).collect();
        let output = Output { stderr: stderr.join("\n") + "\n", ..output };
        assert_fails(&output, code, message);
        canary.assert_absent(&output);
        assert!(stored(&database).await == before, "{message}: something has changed");
    }
    assert_eq!(value(&database, ANY).await, "before");
    assert_unlogged(&canary);
    let binary = run(&mut intcred_as(&database, ADMIN, &["import", "-"]), b"any=1\nsecond=\xff\n").await;
    assert_fails(&binary, 2, "line 2: it is not UTF-8");
    let reader = run(&mut intcred_as(&database, READER, &["import", "-"]), b"any=1").await;
    assert_fails(&reader, 3, "permission denied");
}

#[tokio::test]
async fn dry_run_tells_what_would_happen_to_each_key() {
    let database = with_keys().await;
    let admin = database.connect(ADMIN).await;
    set(&admin, ANY, "same").await.unwrap();
    set(&admin, "strict", "good").await.unwrap();
    let before = stored(&database).await;
    let canary = Canary::new();
    let file = format!("any=same\nsecond={canary}\nstrict=good-{canary}\nslack={canary}\n{canary}=x\n");
    let output = import(&database, &["-", "--dry-run"], &file).await;
    let expected = "any: would be rotated, to the value that it has already\n\
        second: would be set for the first time\n\
        strict: would be rotated\n\
        slack (line 4): would be refused: the value does not match the pattern xox[bp]-[A-Za-z0-9-]+\n\
        line 5: would be refused: the catalog has no integration with this key\n";
    assert_eq!((output.code, output.stdout.as_str()), (1, expected), "{output:?}");
    assert!(output.stderr.contains("intcred: 2 value(s) would be refused\nhint: "), "{output:?}");
    canary.assert_absent(&output);

    let machine = import(&database, &["-", "--dry-run", "--json"], &file).await;
    let rows: Value = serde_json::from_str(&machine.stdout).unwrap();
    assert_eq!(rows[1], json!({"place": "line 2", "key": "second", "wouldBe": "insert"}));
    assert_eq!((&rows[4]["key"], &rows[4]["error"]["code"]), (&Value::Null, &json!("integration_not_found")));
    canary.assert_absent(&machine);
    assert!(stored(&database).await == before, "a dry run has changed something");

    let good = import(&database, &["-", "--dry-run"], "any=1\nsecond=2\n").await;
    assert_eq!(good.code, 0, "{good:?}");
    assert!(stored(&database).await == before, "a dry run has changed something");
}

#[tokio::test]
async fn two_imports_at_once_do_not_lock_each_other_out() {
    let database = with_keys().await;
    let (first, second) = ("any=1\nsecond=1\nstrict=good-1\n", "strict=good-2\nsecond=2\nany=2\n");
    for _ in 0..5 {
        let both = tokio::join!(import(&database, &["-"], first), import(&database, &["-"], second));
        assert_eq!((both.0.code, both.1.code), (0, 0), "{both:?}");
        let values =
            [value(&database, ANY).await, value(&database, "second").await, value(&database, "strict").await];
        // All of one import, as the later of the two left them.
        let last = values[0].clone();
        assert_eq!(values, [last.clone(), last.clone(), format!("good-{last}")]);
    }
}

#[tokio::test]
async fn terminal_shows_the_progress_and_no_value() {
    let database = with_keys().await;
    let canary = Canary::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(".env");
    fs::write(&path, format!("any={canary}\nsecond={canary}\n")).unwrap();
    let terminal = Terminal::start(&intcred_as(&database, ADMIN, &["import", path.to_str().unwrap()]));
    let (code, shown) = terminal.end().await;
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("2/2 credentials set, none committed yet\r\u{1b}[2Kany: saved at 2"), "{shown:?}");
    canary.assert_absent(&shown);
}
