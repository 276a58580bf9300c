//! The secret is in one place only: the caller's hands. Everything that can be done with one is done with a random
//! canary, with default settings and bound parameters, and then it is sought in everything that the system wrote.

use crate::helpers::calls::{ANY, get, register, remove, set};
use crate::helpers::fixture::{ASLEEP, until};
use serde_json::json;
use tests::{ADMIN, Canary, Cluster, Database, Output, READER, SUPERUSER, Shutdown, intcred, run};

/// Functions that do their worst with what they are given.
const FUNCTIONS: &str = "
    CREATE ROLE checker;
    CREATE SCHEMA app AUTHORIZATION checker;
    SET ROLE checker;
    CREATE FUNCTION app.refuses(value text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
        RAISE LOG 'got %', value; RAISE INFO 'got %', value; RAISE WARNING 'got %', value;
        RETURN format('%s %L %s %s', value, value, to_json(value), encode(value::bytea, 'hex'));
    END $$;
    CREATE FUNCTION app.raises(value text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
        EXECUTE format('SELECT %L::int', value); RETURN NULL;
    END $$;
    CREATE FUNCTION app.sleeps(value text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
        EXECUTE format('SELECT pg_sleep(1000), %L', value); RETURN NULL;
    END $$;
    CREATE FUNCTION app.fails(org_slug text, key text, value text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
        CREATE TABLE IF NOT EXISTS app.taken (key text);
        RAISE EXCEPTION 'cannot send % (%)', value, quote_literal(value)
            USING DETAIL = value, HINT = value;
    END $$;
    RESET ROLE;
    SELECT integration_credentials.register_validator('refuses', 'app.refuses(text)');
    SELECT integration_credentials.register_validator('raises', 'app.raises(text)');
    SELECT integration_credentials.register_validator('sleeps', 'app.sleeps(text)');
    SELECT integration_credentials.register_sync_handler('surface', 'app.fails(text, text, text)', 'surface');
    SELECT integration_credentials.register_sync_handler('background', 'app.fails(text, text, text)', 'background');";

const KEYS: [&str; 7] = [ANY, "strict", "refuses", "raises", "sleeps", "surface", "background"];

async fn prepared(cluster: &Cluster) -> Database {
    let database = cluster.database().await;
    let admin = database.connect(ADMIN).await;
    for key in KEYS {
        let rules = if key == "strict" { json!({"schema": {"type": "object"}}) } else { json!({}) };
        register(&admin, key, rules).await.unwrap();
    }
    database.superuser().await.batch_execute(FUNCTIONS).await.unwrap();
    database
}

/// Over the wire: what succeeds, what is refused, what is taken back, and what is cut off.
async fn by_sql(database: &Database, canary: &Canary) {
    let mut admin = database.connect(ADMIN).await;
    for key in KEYS.into_iter().filter(|key| *key != "sleeps").chain(["nowhere", "trustradius"]) {
        for value in [canary.to_string(), json!({"token": canary.as_str()}).to_string()] {
            match set(&admin, key, &value).await {
                Ok(result) => canary.assert_absent(&result),
                Err(error) => canary.assert_absent(&error),
            }
        }
    }
    let oversize = canary.as_str().repeat(8192 / canary.as_str().len() + 1);
    canary.assert_absent(&set(&admin, ANY, &oversize).await.unwrap_err());

    admin.batch_execute("BEGIN; SAVEPOINT s").await.unwrap();
    set(&admin, ANY, canary.as_str()).await.unwrap();
    admin.batch_execute("ROLLBACK TO s").await.unwrap();
    set(&admin, "trustradius", canary.as_str()).await.unwrap();
    admin.batch_execute("ROLLBACK").await.unwrap();
    canary.assert_absent(&admin.notices());
    canary.assert_absent(&remove(&admin, "surface").await.unwrap());

    cut_off(database, canary, "SELECT pg_cancel_backend($1)").await;
    cut_off(database, canary, "SELECT pg_terminate_backend($1)").await;
    assert_eq!(get(&database.connect(READER).await, "background").await.unwrap(), token(canary));
}

fn token(canary: &Canary) -> String {
    json!({"token": canary.as_str()}).to_string()
}

/// Ends a call while its validator holds the value.
async fn cut_off(database: &Database, canary: &Canary, how: &str) {
    let victim = database.connect(ADMIN).await;
    let pid = victim.pid().await;
    let superuser = database.superuser().await;
    let end = async {
        until(&superuser, ASLEEP).await;
        superuser.execute(how, &[&pid]).await.unwrap();
    };
    let (result, ()) = tokio::join!(set(&victim, "sleeps", canary.as_str()), end);
    canary.assert_absent(&result.unwrap_err());
}

/// The same through the command line. What it printed, but for what `get` is asked for, is searched.
async fn by_command_line(database: &Database, canary: &Canary) -> Vec<Output> {
    let mut printed = Vec::new();
    let dsn = database.dsn(ADMIN);
    let mut go = async |arguments: &[&str], stdin: &str| {
        let output = run(intcred().args(["--dsn", &dsn]).args(arguments), stdin.as_bytes()).await;
        printed.push(output.clone());
        output.code
    };
    let value = canary.as_str();
    assert_eq!(go(&["set", ANY], value).await, 0);
    assert_eq!(go(&["--json", "set", ANY], value).await, 0);
    assert_eq!(go(&["set", ANY, "--plain"], value).await, 0);
    for key in ["strict", "refuses", "raises", "nowhere"] {
        assert_eq!(go(&["set", key], value).await, 1, "{key}");
        assert_eq!(go(&["set", key, "--plain"], value).await, 1, "{key}");
    }
    assert_eq!(go(&["set", "surface"], value).await, 5);
    assert_eq!(go(&["set", "background"], &token(canary)).await, 0);
    assert_eq!(go(&["set", ANY], &value.repeat(200)).await, 1);
    for arguments in [&["list"][..], &["show", ANY], &["catalog", "list"], &["remove", ANY]] {
        assert_eq!(go(arguments, "").await, 0, "{arguments:?}");
    }
    let reader = database.dsn(READER);
    let got = run(intcred().args(["--dsn", &reader, "get", "background"]), b"").await;
    assert_eq!(got.success(), token(canary));
    printed
}

#[tokio::test]
async fn the_canary_is_nowhere_in_the_data_directory_nor_in_a_dump_nor_in_what_was_printed() {
    let mut cluster = Cluster::private();
    let database = prepared(&cluster).await;
    let canary = Canary::new();
    by_sql(&database, &canary).await;
    for output in by_command_line(&database, &canary).await {
        canary.assert_absent(&output);
    }
    // So that a search that finds nothing means something: one that Postgres was told openly.
    let planted = Canary::new();
    let plant = format!("CREATE TABLE public.open AS SELECT '{planted}' AS value");
    database.superuser().await.batch_execute(&plant).await.unwrap();

    for arguments in [&["--schema-only"][..], &["--data-only"], &["--inserts"], &[]] {
        let dump = run(cluster.tool("pg_dump").args(arguments).arg(database.name()), b"").await.success();
        assert!(canary.find(dump.as_bytes()).is_empty(), "{arguments:?}");
    }
    let globals = run(cluster.tool("pg_dumpall").args(["-U", SUPERUSER]), b"").await.success();
    assert!(canary.find(globals.as_bytes()).is_empty());
    assert!(!planted.find(globals.as_bytes()).is_empty());

    // As it lies there after a checkpoint, and as a crash leaves it.
    for shutdown in [Shutdown::Fast, Shutdown::Immediate] {
        cluster.stop(shutdown);
        assert_eq!(canary.search(cluster.dir()), [], "{shutdown:?}");
        assert!(!planted.search(&cluster.data_dir()).is_empty());
        cluster.start();
    }
    assert_eq!(get(&database.connect(READER).await, "background").await.unwrap(), token(&canary));
}
