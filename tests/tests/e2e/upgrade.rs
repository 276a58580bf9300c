//! From the released versions to this one: the library works before `ALTER EXTENSION UPDATE`, and after it the database is
//! as if newly made, with all that was in it.
//!
//! The calls of an earlier version are tested by the other tests, too, when `EXTENSION_VERSION` names it.

use crate::audit_proof::{Kept, problems, sealed};
use crate::dump::{dump_and_restore, source, state};
use crate::helpers::calls::{ANY, get, register, set};
use serde_json::json;
use std::{collections::BTreeSet, env, fs, path::Path, process::Command};
use tests::{
    ADMIN, AUDITOR, Canary, Cluster, Database, OUTSIDER, READER, SUPERUSER, Shutdown,
    document::{read, root},
    installation::Installation,
    run,
};

/// The versions that have a script in `sql/`, which never changes, and a path to this one.
fn released() -> Vec<String> {
    let sums = read("sql/SHA256SUMS");
    let scripts = sums.lines().filter_map(|line| line.split_once("  integration_credentials--"));
    let versions: Vec<_> =
        scripts.filter_map(|(_, name)| name.strip_suffix(".sql")).map(str::to_owned).collect();
    // Between two versions stands an upgrade script, which is frozen like the others.
    let versions: Vec<_> = versions.into_iter().filter(|version| !version.contains("--")).collect();
    assert!(!versions.is_empty(), "nothing was released");
    versions
}

/// Everything that `CREATE EXTENSION` makes, an object a row, with what can be said of it.
const OBJECTS: &str = include_str!("upgrade.sql");

async fn objects(database: &Database) -> BTreeSet<String> {
    let rows = database.superuser().await.query(OBJECTS, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Panics with what differs, of which there is little.
#[track_caller]
fn assert_same(found: &BTreeSet<String>, expected: &BTreeSet<String>, from: &str) {
    let missing: Vec<_> = expected.difference(found).collect();
    let left: Vec<_> = found.difference(expected).collect();
    assert!(missing.is_empty() && left.is_empty(), "from {from}: missing {missing:#?}, left {left:#?}");
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
}

#[tokio::test]
async fn upgraded_database_is_as_if_newly_made() {
    let cluster = Cluster::shared();
    let new = cluster.empty_database().await;
    new.superuser().await.batch_execute("CREATE EXTENSION integration_credentials").await.unwrap();
    let expected = objects(&new).await;
    assert!(expected.len() > 100, "{} objects", expected.len());
    for version in &released() {
        let database = at_version(cluster, version).await;
        assert_ne!(objects(&database).await, expected, "{version} is this version");
        update(&database).await;
        let found = objects(&database).await;
        assert_same(&found, &expected, version);
    }
}

#[tokio::test]
async fn upgrade_keeps_rows_and_direct_grants() {
    let cluster = Cluster::builder().setting("fsync", "off").start();
    for version in &released() {
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
    for version in &released() {
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
    for version in &released() {
        let back = format!("ALTER EXTENSION integration_credentials UPDATE TO '{version}'");
        let error = database.superuser().await.batch_execute(&back).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert!(error.message().contains("has no update path"), "{error:?}");
    }
    assert_eq!(objects(&database).await, before);
    set(&admin, ANY, "value").await.unwrap();
}

/// From the Postgres of `PG_UPGRADE_FROM`, which has this version of the extension, or from the one under test.
#[tokio::test]
async fn pg_upgrade_keeps_everything() {
    let old = env::var_os("PG_UPGRADE_FROM").map_or_else(Installation::find, |path| Installation::of(&path));
    let new = Installation::find();
    let canary = Canary::new();
    let mut from = Cluster::builder().of(old.clone()).setting("fsync", "off").start();
    let original = source(&from, &canary, None).await;
    sealed(&original.superuser().await).await;
    let head = Kept::head(&original).await;
    let expected = (state(&original).await, objects(&original).await);
    from.stop(Shutdown::Fast);

    // The default since 18, and a cluster that is upgraded keeps what it had.
    let without_checksums = (new.major() >= 18 && old.major() < 18).then_some("--no-data-checksums");
    let builder = Cluster::builder().keyring(from.keyring()).setting("fsync", "off");
    let builder = without_checksums.into_iter().fold(builder, tests::Builder::initdb);
    let mut to = builder.start();
    to.stop(Shutdown::Fast);
    let mut upgrade = to.tool("pg_upgrade");
    upgrade.env_remove("PGHOST").env_remove("PGPORT").args(["--username", SUPERUSER, "--no-sync"]);
    upgrade.arg("--old-bindir").arg(old.programs()).arg("--new-bindir").arg(new.programs());
    upgrade.arg("--old-datadir").arg(from.data_dir()).arg("--new-datadir").arg(to.data_dir());
    let output = run(&mut upgrade, b"").await;
    assert_eq!(output.code, 0, "{output:?}\n{}", ends_of_logs(&to.data_dir().join("pg_upgrade_output.d")));
    to.start();

    let upgraded = to.named_database(original.name());
    assert_eq!(state(&upgraded).await, expected.0);
    if old.major() == new.major() {
        assert_same(&objects(&upgraded).await, &expected.1, "before pg_upgrade");
    }
    assert_eq!(get(&upgraded.connect(READER).await, ANY).await.unwrap(), canary.as_str());
    let admin = upgraded.connect(ADMIN).await;
    set(&admin, ANY, "after-the-upgrade").await.unwrap();
    sealed(&upgraded.superuser().await).await;
    assert_eq!(problems(&upgraded, &head).await, [""; 0], "the chain goes on");
    assert_eq!(get(&upgraded.connect(READER).await, ANY).await.unwrap(), "after-the-upgrade");
}

/// The last lines of the logs in a folder: `pg_upgrade` refers to them.
fn ends_of_logs(dir: &Path) -> String {
    let entries = fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let ends = entries.map(|path| {
        if path.is_dir() {
            return ends_of_logs(&path);
        }
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let lines: Vec<_> = text.lines().collect();
        format!("{}:\n{}\n", path.display(), lines[lines.len().saturating_sub(20)..].join("\n"))
    });
    ends.collect()
}
