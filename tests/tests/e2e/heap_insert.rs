//! A row that is added to a log by itself is the one that an INSERT would have added.

use crate::helpers::calls::{ANY, count, register, set};
use serde_json::{Value, json};
use tests::{ADMIN, Cluster, Session};

const LOGS: [&str; 2] = ["webapp_org_admin_audit_log", "tool_metering"];

struct Logs {
    admin: Session,
    superuser: Session,
}

async fn logs() -> Logs {
    let database = Cluster::shared().database().await;
    let (admin, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    register(&admin, ANY, json!({})).await.unwrap();
    superuser.batch_execute("CREATE TABLE noted (log text)").await.unwrap();
    Logs { admin, superuser }
}

/// Runs `change` on each log, with LOG in it as the log's name.
async fn change(logs: &Logs, change: &str) {
    for log in LOGS {
        let qualified = format!("integration_credentials.{log}");
        logs.superuser.batch_execute(&change.replace("LOG", &qualified).replace("NAME", log)).await.unwrap();
    }
}

async fn counts(superuser: &Session) -> [i64; 2] {
    [count(superuser, LOGS[0]).await, count(superuser, LOGS[1]).await]
}

#[tokio::test]
async fn with_the_same_columns() {
    let Logs { admin, superuser } = logs().await;
    set(&admin, ANY, "value").await.unwrap();
    // The first is written as ever; the second by an INSERT, for the table has a trigger now.
    superuser
        .batch_execute(
            "CREATE FUNCTION pass() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER pass BEFORE INSERT ON integration_credentials.webapp_org_admin_audit_log
                 FOR EACH ROW EXECUTE FUNCTION pass();
             CREATE TRIGGER pass BEFORE INSERT ON integration_credentials.tool_metering
                 FOR EACH ROW EXECUTE FUNCTION pass();",
        )
        .await
        .unwrap();
    set(&admin, ANY, "another").await.unwrap();
    for log in LOGS {
        let rows = format!(
            "SELECT to_jsonb(l) - 'id' - 'created_at' - 'duration_ms' - 'mac', id,
                    created_at BETWEEN now() - interval '1 minute' AND now()
             FROM integration_credentials.{log} l ORDER BY id DESC LIMIT 2"
        );
        let rows = superuser.query(&rows, &[]).await.unwrap();
        let [mut later, mut earlier]: [Value; 2] = [rows[0].get(0), rows[1].get(0)];
        if log == LOGS[0] {
            assert_eq!(
                [&earlier["metadata"], &later["metadata"]],
                [&json!({"wasUpdate": false}), &json!({"wasUpdate": true})]
            );
            assert_eq!(earlier["session_role"], ADMIN);
            for row in [&mut earlier, &mut later] {
                row["metadata"] = Value::Null;
            }
        }
        assert_eq!(earlier, later, "{log}");
        assert_eq!(rows[0].get::<_, i64>(1), rows[1].get::<_, i64>(1) + 1);
        assert!(rows.iter().all(|row| row.get(2)));
    }
}

#[tokio::test]
async fn whatever_the_operator_has_given_the_table_happens() {
    let note = "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql
                    AS 'BEGIN INSERT INTO public.noted VALUES (TG_TABLE_NAME); RETURN NEW; END'";
    let by_row = "CREATE TRIGGER t AFTER INSERT ON LOG FOR EACH ROW EXECUTE FUNCTION note()";
    let by_statement = "CREATE TRIGGER t AFTER INSERT ON LOG FOR EACH STATEMENT EXECUTE FUNCTION note()";
    let rule = "CREATE RULE r AS ON INSERT TO LOG DO ALSO INSERT INTO public.noted VALUES ('NAME')";
    for given in [by_row, by_statement, rule] {
        let logs = logs().await;
        logs.superuser.batch_execute(note).await.unwrap();
        change(&logs, given).await;
        let before = counts(&logs.superuser).await;
        set(&logs.admin, ANY, "value").await.unwrap();
        assert_eq!(counts(&logs.superuser).await, before.map(|count| count + 1), "{given}");
        let noted = logs.superuser.query("SELECT log FROM noted", &[]).await.unwrap();
        assert_eq!(noted.iter().map(|row| row.get::<_, &str>(0)).collect::<Vec<_>>(), LOGS, "{given}");
    }
    for (given, sqlstate) in [
        ("ALTER TABLE LOG ADD CHECK (actor <> 'actor') NOT VALID", "23514"),
        ("ALTER TABLE LOG ADD note text NOT NULL DEFAULT NULL", "23502"),
        ("CREATE UNIQUE INDEX ON LOG ((created_at > '2020-01-01')) WHERE actor = 'actor'", "23505"),
        ("CREATE UNIQUE INDEX ON LOG (lower(actor)) WHERE lower(actor) = 'actor'", "23505"),
    ] {
        let logs = logs().await;
        for log in LOGS {
            logs.superuser
                .batch_execute(&format!("DELETE FROM integration_credentials.{log}"))
                .await
                .unwrap();
        }
        if sqlstate == "23505" {
            set(&logs.admin, ANY, "value").await.unwrap();
            change(&logs, given).await;
        } else {
            change(&logs, given).await;
        }
        let before = counts(&logs.superuser).await;
        let error = set(&logs.admin, ANY, "value").await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), sqlstate, "{given}: {error:?}");
        assert_eq!(counts(&logs.superuser).await, before, "{given}");
    }
}

#[tokio::test]
async fn a_moment_is_as_exact_as_its_column() {
    let Logs { admin, superuser } = logs().await;
    let seconds = "ALTER TABLE integration_credentials.tool_metering ALTER created_at TYPE timestamptz(0)";
    superuser.batch_execute(seconds).await.unwrap();
    set(&admin, ANY, "value").await.unwrap();
    let inexact = "SELECT FROM integration_credentials.tool_metering WHERE extract(microseconds FROM created_at) % 1000000 <> 0";
    assert_eq!(superuser.query(inexact, &[]).await.unwrap().len(), 0);
}

#[tokio::test]
async fn every_index_finds_it() {
    let logs = logs().await;
    change(&logs, "CREATE INDEX ON LOG (created_at)").await;
    change(&logs, "CREATE INDEX ON LOG (upper(actor)) WHERE actor LIKE 'a%'").await;
    change(&logs, "CREATE INDEX ON LOG USING gin (metadata)").await;
    change(&logs, "CREATE INDEX ON LOG USING brin (created_at)").await;
    for number in 0..300 {
        if number == 200 {
            change(&logs, "ALTER TABLE LOG ADD note text DEFAULT 'none'").await;
        }
        set(&logs.admin, ANY, "value").await.unwrap();
    }
    logs.superuser.batch_execute("SET enable_seqscan = off; CREATE EXTENSION amcheck").await.unwrap();
    for log in LOGS {
        let matching = "upper(actor) = 'ACTOR' AND actor LIKE 'a%'";
        let indexed = format!("SELECT count(*) FROM integration_credentials.{log} WHERE {matching}");
        let found: i64 = logs.superuser.query_one(&indexed, &[]).await.unwrap().get(0);
        assert_eq!(found, count(&logs.superuser, log).await);
        let check = "SELECT bt_index_check(i.indexrelid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                     JOIN pg_am a ON a.oid = c.relam
                     WHERE a.amname = 'btree' AND i.indrelid = ('integration_credentials.' || $1)::regclass";
        assert!(logs.superuser.query(check, &[&log]).await.unwrap().len() >= 2);
    }
}

/// While a log is analyzed, no old version of a credential can be pruned.
#[tokio::test]
async fn a_log_is_analyzed_in_no_time() {
    let Logs { superuser, .. } = logs().await;
    for log in LOGS {
        let slow = "SELECT attname FROM pg_attribute
                    WHERE attrelid = ('integration_credentials.' || $1)::regclass AND attnum > 0 AND attstattarget <> 10";
        assert_eq!(superuser.query(slow, &[&log]).await.unwrap().len(), 0, "{log}");
    }
}
