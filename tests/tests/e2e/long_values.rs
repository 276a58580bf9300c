//! Values of the greatest length that the setting allows: stored whole, and within bounds of memory and time.

use crate::helpers::calls::{ANY, SealTo, get, register, set, set_sealed};
use crate::helpers::fixture::{CHECK, Fixture, plpgsql, sqlstate};
use integration_credentials_core::{error::ErrorCode, limits::MAX_VALUE_CHARS};
use serde_json::json;
use tests::{
    ADMIN, Canary, Cluster, Database, READER, SUPERUSER, Shutdown, assert_error, backend::peak_memory,
    intcred, run,
};

const LIMIT: &str = "integration_credentials.max_value_length";

async fn allow_the_longest(database: &Database) {
    let alter = format!("ALTER DATABASE {} SET {LIMIT} = {MAX_VALUE_CHARS}", database.name());
    database.superuser().await.batch_execute(&alter).await.unwrap();
}

#[tokio::test]
async fn the_limit_is_a_superusers_to_set() {
    let database = Cluster::shared().database().await;
    let (admin, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    let shown: String = superuser.query_one(&format!("SHOW {LIMIT}"), &[]).await.unwrap().get(0);
    assert_eq!(shown, "8192");
    register(&admin, ANY, json!({"maxLength": MAX_VALUE_CHARS})).await.unwrap();
    assert_eq!(sqlstate(admin.batch_execute(&format!("SET {LIMIT} = 9000")).await), "42501");
    for (value, code) in [("0", "22023"), ("1048577", "22023"), ("many", "22023"), ("1048576", "")] {
        let set = superuser.batch_execute(&format!("SET {LIMIT} = {value}")).await;
        assert_eq!(set.err().map_or(String::new(), |error| error.code().unwrap().code().to_owned()), code);
    }
    for limit in [1, 20, 8192, 9000] {
        superuser.batch_execute(&format!("SET {LIMIT} = {limit}")).await.unwrap();
        for unit in ["a", "é", "😀"] {
            let sealed = SealTo::ask(&superuser).await;
            set(&superuser, ANY, &unit.repeat(limit)).await.unwrap();
            set_sealed(&superuser, ANY, &sealed.seal(ANY, &unit.repeat(limit))).await.unwrap();
            let longer = unit.repeat(limit + 1);
            let refused = [
                set(&superuser, ANY, &longer).await,
                set_sealed(&superuser, ANY, &sealed.seal(ANY, &longer)).await,
            ];
            for refused in refused {
                let error = assert_error(refused, ErrorCode::InvalidRequest);
                let expected = format!("value has {} characters; at most {limit} are allowed", limit + 1);
                assert_eq!(error.message(), expected);
                assert!(error.hint().unwrap().contains(LIMIT), "{error:?}");
            }
        }
    }
    // What is stored can be read, whatever the limit is by then.
    superuser.batch_execute(&format!("SET {LIMIT} = 1")).await.unwrap();
    assert_eq!(get(&superuser, ANY).await.unwrap(), "😀".repeat(9000));
}

/// A chain of nine certificates, as it comes from `openssl`.
#[tokio::test]
async fn the_client_leaves_the_limit_to_the_server() {
    let database = Cluster::shared().database().await;
    register(&database.connect(ADMIN).await, ANY, json!({})).await.unwrap();
    let line = "MIIDazCCAlOgAwIBAgIUc3RhbmRzIGZvciBhIGNlcnRpZmljYXRlLCBvZiBub24=\n";
    let certificate = format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", line.repeat(20));
    let chain = certificate.repeat(9);
    let dsn = database.dsn(ADMIN);
    for how in [&["set", ANY][..], &["set", ANY, "--plain"]] {
        let mut command = intcred();
        let refused = run(command.args(["--dsn", &dsn]).args(how), chain.as_bytes()).await;
        assert!(refused.code == 1 && refused.stderr.contains(LIMIT), "{refused:?}");
    }
    allow_the_longest(&database).await;
    for (how, value) in [
        (&["set", ANY, "--exact"][..], chain),
        (&["set", ANY], "😀".repeat(MAX_VALUE_CHARS)),
        (&["set", ANY, "--plain"], "é".repeat(MAX_VALUE_CHARS)),
    ] {
        let mut command = intcred();
        let set = run(command.args(["--dsn", &dsn]).args(how), value.as_bytes()).await;
        assert_eq!((set.code, set.stderr.as_str()), (0, ""));
        let got = run(intcred().args(["--dsn", &database.dsn(READER), "get", ANY]), b"").await.success();
        assert!(got.trim_end_matches('\n') == value.trim_end_matches('\n'));
    }
}

/// What a call may take besides, in megabytes. The value itself has four, and Postgres and the protocol have copies of it.
const BOUND: u64 = 96;
const MB: u64 = 1 << 20;

#[tokio::test]
async fn the_longest_value_takes_no_more_memory_wherever_it_goes() {
    let fixture = Fixture::new().await;
    let database = &fixture.database;
    allow_the_longest(database).await;
    let canary = Canary::new();
    let long = format!("{canary}{}", "😀".repeat(MAX_VALUE_CHARS - canary.as_str().len()));
    let document = format!("{{\"a\": [{}\"{canary}\"]}}", "\"hunter22\",".repeat(MAX_VALUE_CHARS / 11 - 10));
    // As long as a value may be that is matched.
    let numbers = format!("[{}0]", "0,".repeat(32_000));
    let members = (0..5_000).map(|number| format!("\"{number}\":1,")).collect::<Vec<_>>().concat();
    let members = format!("{{{members}\"\":1}}");
    let schema = json!({"schema": {
        "items": {"type": "number"}, "uniqueItems": true,
        "additionalProperties": {"type": "number"}, "propertyNames": {"pattern": "^[0-9]*$"},
    }});
    let (tell, raise) = (Some("RETURN value"), Some("RAISE EXCEPTION '%', value"));
    for (name, value, rules, validator, is_taken) in [
        ("nothing", &long, json!({}), None, true),
        (
            "a validator that takes it",
            &long,
            json!({"minLength": MAX_VALUE_CHARS}),
            Some("RETURN NULL"),
            true,
        ),
        ("a pattern", &long, json!({"pattern": ".*"}), None, false),
        ("a schema", &document, json!({"schema": {"type": "object"}}), None, false),
        ("a schema of numbers", &numbers, schema.clone(), None, false),
        ("a schema of members", &members, schema, None, true),
        ("a validator that tells it", &long, json!({}), tell, false),
        ("a validator that raises it", &long, json!({}), raise, false),
        ("a validator that tells a document", &document, json!({}), tell, false),
        ("a validator that raises a document", &document, json!({}), raise, false),
    ] {
        register(&fixture.admin, ANY, rules).await.unwrap();
        let body = validator.unwrap_or("RETURN NULL");
        fixture.as_owner(&format!("CREATE OR REPLACE FUNCTION {}", plpgsql(CHECK, body))).await;
        fixture.register("validator", &[&ANY, &validator.map(|_| "app.check(text)")]).await.unwrap();
        let admin = database.connect(SUPERUSER).await;
        let _ = set(&admin, ANY, "\"short\"").await;
        let before = peak_memory(admin.pid().await);
        let plain = set(&admin, ANY, value).await;
        let sealed = set_sealed(&admin, ANY, &SealTo::ask(&admin).await.seal(ANY, value)).await;
        let took = peak_memory(admin.pid().await).saturating_sub(before) / MB;
        for result in [plain, sealed] {
            if is_taken {
                result.unwrap();
            } else {
                // Of values that long, errors come without their DETAIL.
                let error = result.unwrap_err().as_db_error().unwrap().clone();
                assert_eq!(error.code().code(), "IC003", "{name}: {error:?}");
                canary.assert_absent(&error);
                assert!(error.message().len() < 600, "{name}");
            }
        }
        assert!(took < BOUND, "{name}: {took} MB");
    }

    let superuser = database.superuser().await;
    fixture.register("validator", &[&ANY, &None::<&str>]).await.unwrap();
    register(&fixture.admin, ANY, json!({})).await.unwrap();
    set(&superuser, ANY, &long).await.unwrap();
    let stored = "SELECT octet_length(ciphertext) FROM integration_credentials.configured_integrations";
    let stored: i32 = superuser.query_one(stored, &[]).await.unwrap().get(0);
    assert!(usize::try_from(stored).unwrap() > long.len());
    for read in [
        "SELECT integration_credentials.get_integration_credentials('any')",
        "SELECT value FROM integration_credentials.get_integration_credentials_with_revision('any')",
        "SELECT value FROM integration_credentials.get_all_integration_credentials()",
    ] {
        let reader = database.connect(READER).await;
        let before = peak_memory(reader.pid().await);
        for _ in 0..5 {
            assert!(reader.query_one(read, &[]).await.unwrap().get::<_, &str>(0) == long);
        }
        let took = peak_memory(reader.pid().await).saturating_sub(before) / MB;
        assert!(took < BOUND, "{read}: {took} MB");
    }
}

/// Neither in the table nor in the write-ahead log, also where it is cut into pieces and compressed.
#[tokio::test]
async fn a_value_that_fills_many_pages_is_on_none_of_them() {
    let mut cluster = Cluster::private();
    let database = cluster.database().await;
    allow_the_longest(&database).await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    let canary = Canary::new();
    let value = format!("{canary} ").repeat(MAX_VALUE_CHARS / (canary.as_str().len() + 1));
    set(&admin, ANY, &value).await.unwrap();
    set_sealed(&admin, ANY, &SealTo::ask(&admin).await.seal(ANY, &value)).await.unwrap();
    assert!(get(&database.connect(READER).await, ANY).await.unwrap() == value);
    cluster.stop(Shutdown::Fast);
    assert_eq!(canary.search(&cluster.data_dir()), []);
}
