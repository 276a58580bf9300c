//! Reading many credentials in one call: one snapshot, the same rules as one by one, and no file on the server.

use crate::helpers::calls::{ANY, enable, register, remove, set};
use integration_credentials_core::error::ErrorCode;
use serde_json::json;
use tests::{ADMIN, Canary, Cluster, READER, Session, assert_error};

async fn all(reader: &Session) -> Vec<(String, String, i64)> {
    let sql = "SELECT key, value, revision FROM integration_credentials.get_all_integration_credentials()";
    let rows = reader.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

async fn versioned(reader: &Session, key: Option<&str>) -> Result<(String, i64), tokio_postgres::Error> {
    let sql =
        "SELECT value, revision FROM integration_credentials.get_integration_credentials_with_revision($1)";
    reader.query_one(sql, &[&key]).await.map(|row| (row.get(0), row.get(1)))
}

#[tokio::test]
async fn all_is_what_can_be_read_one_by_one_in_this_org() {
    let database = Cluster::shared().database().await;
    let (admin, reader) = (database.connect(ADMIN).await, database.connect(READER).await);
    assert_eq!(all(&reader).await, []);
    for key in ["a", "b", "off", "gone", "never"] {
        register(&admin, key, json!({})).await.unwrap();
    }
    for key in ["a", "b", "b", "off", "gone"] {
        set(&admin, key, &format!("{key}'s value")).await.unwrap();
    }
    enable(&admin, "off", false).await.unwrap();
    remove(&admin, "gone").await.unwrap();
    let other = database.superuser().await;
    other.batch_execute("SET integration_credentials.org_slug = 'other'").await.unwrap();
    set(&other, "a", "of the other org").await.unwrap();

    let row = |key: &str, revision| (key.to_owned(), format!("{key}'s value"), revision);
    assert_eq!(all(&reader).await, [row("a", 1), row("b", 2)]);
    // In the select list, where rows are asked for in another way.
    let sql = "SELECT (integration_credentials.get_all_integration_credentials()).key";
    assert_eq!(reader.query(sql, &[]).await.unwrap().len(), 2);
    assert_eq!(versioned(&reader, Some("b")).await.unwrap(), ("b's value".to_owned(), 2));
    for (key, code) in [
        (Some("off"), ErrorCode::IntegrationDisabled),
        (Some("gone"), ErrorCode::CredentialsNotSet),
        (Some("never"), ErrorCode::CredentialsNotSet),
        (Some("nowhere"), ErrorCode::IntegrationNotFound),
        (Some(""), ErrorCode::InvalidRequest),
        (None, ErrorCode::InvalidRequest),
    ] {
        assert_error(versioned(&reader, key).await, code);
    }
}

#[tokio::test]
async fn a_list_of_keys_is_listed_as_the_whole_list_has_them() {
    let database = Cluster::shared().database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    set(&admin, ANY, "value").await.unwrap();
    let text = |sql| admin.query_one(sql, &[]);
    let some = "SELECT coalesce(string_agg(l::text, ';' ORDER BY key), '')
                FROM integration_credentials.list_integrations('{slack,any,nowhere,any}') AS l";
    let whole = "SELECT string_agg(l::text, ';' ORDER BY key)
                 FROM integration_credentials.list_integrations() AS l WHERE key IN ('any', 'slack')";
    assert_eq!(text(some).await.unwrap().get::<_, String>(0), text(whole).await.unwrap().get::<_, String>(0));
    for nothing in ["'{}'", "'{NULL}'", "NULL"] {
        let sql = format!("SELECT key FROM integration_credentials.list_integrations({nothing}::text[])");
        assert!(admin.query(&sql, &[]).await.unwrap().is_empty(), "{nothing}");
    }
}

/// The statement that a reviewer would write, which the library answers without a query.
const JOIN: &str = "
    SELECT k.integration_key, k.display_name, k.is_enabled, coalesce(c.revision, 0) > 0, c.ciphertext IS NOT NULL,
           coalesce(c.revision, 0), CASE WHEN c.revision > 0 THEN c.updated_at END, c.expires_at,
           coalesce(c.previous_until > clock_timestamp(), false), c.pending_ciphertext IS NOT NULL
    FROM integration_credentials.integration_catalog k
    LEFT JOIN integration_credentials.configured_integrations c
        ON c.integration_key = k.integration_key AND c.org_slug = integration_credentials.current_org()
    ORDER BY k.integration_key";

#[tokio::test]
async fn the_list_is_the_catalog_joined_with_the_credentials_of_the_org() {
    let database = Cluster::shared().database().await;
    let superuser = database.superuser().await;
    let check = async |what: &str| {
        let rows = async |query: &str| {
            let text = format!("SELECT t::text FROM ({query}) t");
            let rows = superuser.query(&text, &[]).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()
        };
        let joined = rows(JOIN).await;
        assert_eq!(rows("SELECT * FROM integration_credentials.list_integrations()").await, joined, "{what}");
        assert!(!joined.is_empty(), "{what}");
    };
    check("no credential").await;
    for key in ["0", "a", "A", "aa", "b", "ä", "pending", "removed", "zz"] {
        register(&superuser, key, json!({})).await.unwrap();
    }
    check("more entries").await;
    for org in ["aaa", "one", "zzz"] {
        superuser.batch_execute(&format!("SET integration_credentials.org_slug = {org}")).await.unwrap();
        check("no credential of this org").await;
        for key in ["0", "A", "aa", "aa", "b", "ä", "removed", "zz"] {
            set(&superuser, key, "value").await.unwrap();
        }
        remove(&superuser, "removed").await.unwrap();
        let pending = r#"SELECT integration_credentials.admin_set_integration_credentials('pending', 'value', 'actor', '{"stage": true}')"#;
        superuser.batch_execute(pending).await.unwrap();
        enable(&superuser, "zz", org != "zzz").await.unwrap();
        check(org).await;
    }
    for lost in ["0", "aa", "zz", "pending"] {
        let delete = format!(
            "DELETE FROM integration_credentials.integration_catalog WHERE integration_key = '{lost}'"
        );
        superuser.batch_execute(&delete).await.unwrap();
        check(&format!("without {lost}")).await;
    }
    superuser.batch_execute("BEGIN; SET LOCAL work_mem = '64kB'").await.unwrap();
    check("more than work_mem has room for").await;
    superuser.batch_execute("DELETE FROM integration_credentials.integration_catalog").await.unwrap();
    let list = "SELECT FROM integration_credentials.list_integrations()";
    assert!(superuser.query(list, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_value_and_its_revision_are_of_one_moment() {
    let database = Cluster::shared().database().await;
    let (admin, reader) = (database.connect(ADMIN).await, database.connect(READER).await);
    register(&admin, ANY, json!({})).await.unwrap();
    let writing = async {
        for revision in 1..=200 {
            set(&admin, ANY, &revision.to_string()).await.unwrap();
        }
    };
    let reading = async {
        let mut seen = 0;
        while seen < 200 {
            let rows = all(&reader).await;
            let one = versioned(&reader, Some(ANY)).await.ok();
            for (value, revision) in rows.into_iter().map(|(_, value, revision)| (value, revision)).chain(one)
            {
                assert_eq!(value, revision.to_string());
                assert!(seen <= revision);
                seen = revision;
            }
        }
    };
    tokio::join!(writing, reading);
}

#[tokio::test]
async fn reading_more_than_work_mem_writes_no_temporary_file() {
    let cluster = Cluster::builder().setting("work_mem", "64kB").setting("log_temp_files", "0").start();
    let database = cluster.database().await;
    let (admin, reader) = (database.connect(ADMIN).await, database.connect(READER).await);
    let canary = Canary::new();
    let value = canary.as_str().repeat(8192 / canary.as_str().len());
    for number in 0..40 {
        let key = format!("k{number}");
        register(&admin, &key, json!({})).await.unwrap();
        set(&admin, &key, &value).await.unwrap();
    }
    let rows = all(&reader).await;
    assert_eq!(rows.len(), 40);
    assert!(rows.iter().all(|(_, read, _)| *read == value));
    assert!(!cluster.log().contains("temporary file"), "{}", cluster.log());
    // The setting does log what goes to the disk.
    reader.query("SELECT g FROM generate_series(1, 100000) AS g ORDER BY -g", &[]).await.unwrap();
    assert!(cluster.log().contains("temporary file"));
}

#[tokio::test]
async fn one_value_that_cannot_be_decrypted_has_an_error_in_its_row_and_the_others_are_read() {
    let database = Cluster::shared().database().await;
    let (admin, reader) = (database.connect(ADMIN).await, database.connect(READER).await);
    for key in ["good", "bad"] {
        register(&admin, key, json!({})).await.unwrap();
        set(&admin, key, "value").await.unwrap();
    }
    let spoil = "UPDATE integration_credentials.configured_integrations
                 SET ciphertext = set_byte(ciphertext, 50, get_byte(ciphertext, 50) # 1) WHERE integration_key = 'bad'";
    database.superuser().await.batch_execute(spoil).await.unwrap();
    let sql =
        "SELECT key, value, revision, error FROM integration_credentials.get_all_integration_credentials()";
    let rows = reader.query(sql, &[]).await.unwrap();
    let rows: Vec<(&str, Option<&str>, i64, Option<&str>)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    let code = ErrorCode::EncryptionUnavailable;
    assert_eq!(rows, [("bad", None, 1, Some(code.as_str())), ("good", Some("value"), 1, None)]);
    assert_error(versioned(&reader, Some("bad")).await, code);

    // The library has the others, and says of this one what is wrong.
    let settings = intcred::Settings::resolve(Some(&database.dsn(READER))).unwrap();
    let cache = intcred::CredentialCache::start(&settings, intcred::CacheOptions::default()).await.unwrap();
    assert_eq!(cache.warm().await.unwrap(), 1);
    assert_eq!(cache.get("good").await.unwrap().expose().unwrap(), "value");
    assert_eq!(cache.get("bad").await.unwrap_err().code(), Some(code));
    assert_eq!(versioned(&reader, Some("good")).await.unwrap().0, "value");
}
