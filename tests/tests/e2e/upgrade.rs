//! From the released versions to this one: the library works before `ALTER EXTENSION UPDATE`, and after it the database is
//! as if newly made, with all that was in it.
//!
//! The calls of an earlier version are tested by the other tests, too, when `EXTENSION_VERSION` names it.

use crate::dump::{dump_and_restore, source, state};
use crate::helpers::calls::{ANY, get, register, set};
use serde_json::json;
use std::{collections::BTreeSet, process::Command};
use tests::{ADMIN, AUDITOR, Canary, Cluster, Database, OUTSIDER, READER, document::root};

/// Each has a script in `sql/`, which never changes, and a path to this version.
const RELEASED: &[&str] = &["0.1.0"];

/// Everything that `CREATE EXTENSION` makes, an object a row, with what can be said of it.
const OBJECTS: &str = "
    WITH member AS (
        SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
        WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'integration_credentials'
    ), relation AS (
        SELECT c.* FROM pg_class c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
    )
    SELECT format('%s %s: %s', o.type, o.identity, obj_description(m.objid, m.classid::regclass::text))
    FROM member m, LATERAL pg_identify_object(m.classid, m.objid, 0) o
    UNION ALL SELECT format('%s %s', pg_get_functiondef(p.oid), p.proacl)
    FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
    UNION ALL SELECT format('relation %s', to_jsonb(r) - '{oid,reltype,relfilenode,relpages,reltuples,relallvisible,relallfrozen,
        relfrozenxid,relminmxid,relnamespace,reltoastrelid,relowner,relhasindex}'::text[])
    FROM relation r
    UNION ALL SELECT format('column %s.%s: %s %s %s', r.relname,
        row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum), a.attname, format_type(a.atttypid, a.atttypmod), concat_ws(' ',
        a.attcollation::regcollation, a.attnotnull, a.attidentity, a.attgenerated, a.attstattarget, a.attstorage,
        a.attcompression, a.attacl, pg_get_expr(d.adbin, d.adrelid), col_description(r.oid, a.attnum)))
    FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
    UNION ALL SELECT format('constraint %s.%s: %s %s', r.relname, c.conname, pg_get_constraintdef(c.oid), c.convalidated)
    FROM relation r JOIN pg_constraint c ON c.conrelid = r.oid
    UNION ALL SELECT format('index %s %s', pg_get_indexdef(i.indexrelid), i.indisreplident)
    FROM relation r JOIN pg_index i ON i.indrelid = r.oid
    UNION ALL SELECT format('trigger %s %s', pg_get_triggerdef(t.oid), t.tgenabled)
    FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid
    UNION ALL SELECT format('view %s: %s', r.relname, pg_get_viewdef(r.oid)) FROM relation r WHERE r.relkind = 'v'
    UNION ALL SELECT format('dumped %s: %s', c.place, c.table::regclass || ' ' || c.condition)
    FROM pg_extension e, unnest(e.extconfig, e.extcondition) WITH ORDINALITY c (\"table\", condition, place)
    WHERE e.extname = 'integration_credentials'
    UNION ALL SELECT format('schema %s', n.nspacl) FROM pg_namespace n WHERE n.nspname = 'integration_credentials'
    UNION ALL SELECT format('extension %s %s %s', e.extrelocatable, e.extnamespace::regnamespace, e.extversion)
    FROM pg_extension e WHERE e.extname = 'integration_credentials'
    UNION ALL SELECT format('entry %s', to_jsonb(k) - 'updated_at')
    FROM integration_credentials.integration_catalog k WHERE k.is_shipped";

async fn objects(database: &Database) -> BTreeSet<String> {
    let rows = database.superuser().await.query(OBJECTS, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn at_version(cluster: &Cluster, version: &str) -> Database {
    let database = cluster.empty_database().await;
    let create = format!("CREATE EXTENSION integration_credentials VERSION '{version}'");
    database.superuser().await.batch_execute(&create).await.unwrap();
    database
}

async fn update(database: &Database) {
    let update = "ALTER EXTENSION integration_credentials UPDATE";
    database.superuser().await.batch_execute(update).await.unwrap();
}

#[test]
fn released_scripts_are_what_was_released() {
    let check = ["--check", "--strict", "SHA256SUMS"];
    let output = Command::new("sha256sum").args(check).current_dir(root().join("sql")).output().unwrap();
    assert!(
        output.status.success(),
        "a released script has changed; write an upgrade script instead: {output:?}"
    );
    let sums = std::fs::read_to_string(root().join("sql/SHA256SUMS")).unwrap();
    for version in RELEASED {
        assert!(
            sums.contains(&format!("  integration_credentials--{version}.sql\n")),
            "{version} has no sum"
        );
    }
}

#[tokio::test]
async fn upgraded_database_is_as_if_newly_made() {
    let cluster = Cluster::shared();
    let new = cluster.empty_database().await;
    new.superuser().await.batch_execute("CREATE EXTENSION integration_credentials").await.unwrap();
    let expected = objects(&new).await;
    assert!(expected.len() > 100, "{} objects", expected.len());
    for version in RELEASED {
        let database = at_version(cluster, version).await;
        assert_ne!(objects(&database).await, expected, "{version} is this version");
        update(&database).await;
        let found = objects(&database).await;
        let missing: Vec<_> = expected.difference(&found).collect();
        let left: Vec<_> = found.difference(&expected).collect();
        assert!(
            missing.is_empty() && left.is_empty(),
            "from {version}: missing {missing:#?}, left {left:#?}"
        );
    }
}

#[tokio::test]
async fn upgrade_keeps_rows_and_direct_grants() {
    let cluster = Cluster::builder().setting("fsync", "off").start();
    for version in RELEASED {
        let canary = Canary::new();
        let database = source(&cluster, &canary, Some(version)).await;
        let superuser = database.superuser().await;
        let grants = format!(
            "GRANT USAGE ON SCHEMA integration_credentials TO {OUTSIDER};
             GRANT EXECUTE ON FUNCTION integration_credentials.get_integration_credentials(text),
                 integration_credentials.current_org() TO {OUTSIDER};
             GRANT SELECT (id, actor) ON integration_credentials.audit_log TO {OUTSIDER};
             GRANT SELECT ON integration_credentials.tool_metering TO {AUDITOR}"
        );
        superuser.batch_execute(&grants).await.unwrap();
        let before = state(&database).await;
        let read = async || {
            for role in [READER, OUTSIDER] {
                assert_eq!(get(&database.connect(role).await, ANY).await.unwrap(), canary.as_str(), "{role}");
            }
            let audit = "SELECT id, actor FROM integration_credentials.audit_log";
            assert!(!database.connect(OUTSIDER).await.query(audit, &[]).await.unwrap().is_empty());
            let metering = "SELECT FROM integration_credentials.tool_metering";
            assert!(!database.connect(AUDITOR).await.query(metering, &[]).await.unwrap().is_empty());
        };
        read().await;
        // A session that has plans and caches of the earlier version goes on.
        let (admin, reader) = (database.connect(ADMIN).await, database.connect(READER).await);
        set(&admin, ANY, canary.as_str()).await.unwrap();
        get(&reader, ANY).await.unwrap();
        let before_update = state(&database).await;
        assert_ne!(before_update, before);
        update(&database).await;
        assert_eq!(state(&database).await, before_update);
        read().await;
        assert_eq!(get(&reader, ANY).await.unwrap(), canary.as_str());
        set(&admin, ANY, "after-the-update").await.unwrap();
        assert_eq!(get(&reader, ANY).await.unwrap(), "after-the-update");
    }
}

#[tokio::test]
async fn dump_of_a_released_version_is_restored_into_this_one() {
    let cluster = Cluster::shared();
    for version in RELEASED {
        let canary = Canary::new();
        let original = source(cluster, &canary, Some(version)).await;
        let other = Cluster::builder().keyring(cluster.keyring()).setting("fsync", "off").start();
        // Makes the roles that the dump grants to.
        other.database().await;
        let restored = other.empty_database().await;
        dump_and_restore((cluster, &original), (&other, &restored), &canary).await;
        assert_eq!(state(&restored).await, state(&original).await);
        restored.set_org("acme").await;
        assert_eq!(get(&restored.connect(READER).await, ANY).await.unwrap(), canary.as_str());
        set(&restored.connect(ADMIN).await, ANY, "after-the-restore").await.unwrap();
    }
}

#[tokio::test]
async fn downgrade_is_refused_and_changes_nothing() {
    let database = Cluster::shared().database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    let before = objects(&database).await;
    for version in RELEASED {
        let back = format!("ALTER EXTENSION integration_credentials UPDATE TO '{version}'");
        let error = database.superuser().await.batch_execute(&back).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert!(error.message().contains("has no update path"), "{error:?}");
    }
    assert_eq!(objects(&database).await, before);
    set(&admin, ANY, "value").await.unwrap();
}
