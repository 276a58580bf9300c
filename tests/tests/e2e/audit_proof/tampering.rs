//! What a superuser does to the log is found, and named.

use super::{Kept, audit, problems, sealed, three_blocks};
use crate::dump::dump_and_restore;
use crate::helpers::calls::{ANY, set};
use crate::helpers::fixture::until;
use tests::{ADMIN, Canary, Cluster};
use tokio::task::JoinSet;

const LOG: &str = "integration_credentials.webapp_org_admin_audit_log";
const BLOCKS: &str = "integration_credentials.audit_blocks";
const COLUMNS: &str =
    "actor, session_role, acting_role, action, target_type, target_id, metadata, created_at, mac";

const CUT_AFTER_0: &str =
    "the blocks after block 0 were removed, or a restore was not completed: nothing more is sealed";
const CUT_AFTER_1: &str =
    "the blocks after block 1 were removed, or a restore was not completed: nothing more is sealed";

/// A statement, with LOG, BLOCKS and COLUMNS for their names, and the problems that are then found.
const TAMPERING: &[(&str, &[&str])] = &[
    ("UPDATE LOG SET actor = 'another' WHERE id = 3", &["row 3 of block 0 was altered"]),
    ("UPDATE LOG SET created_at = created_at - interval '1 us' WHERE id = 9", &["row 9 of block 1 was altered"]),
    ("UPDATE LOG SET metadata = metadata || '{\"wasUpdate\": 1}' WHERE id = 12", &["row 12 of block 2 was altered"]),
    ("UPDATE LOG SET mac = NULL WHERE id = 3", &["row 3 of block 0 was altered"]),
    ("UPDATE LOG SET org_slug = 'another' WHERE id = 3", &["row 3 of block 0 was altered"]),
    ("DELETE FROM LOG WHERE id = 4", &["row 4 of block 0 was removed"]),
    ("DELETE FROM LOG WHERE id IN (7, 12)", &["row 7 of block 0 was removed", "row 12 of block 2 was removed"]),
    (
        "INSERT INTO LOG (id, org_slug, COLUMNS) OVERRIDING SYSTEM VALUE SELECT 1000, org_slug, COLUMNS FROM LOG WHERE id = 3",
        &["row 1000 is in no block: it was invented or altered, or the server does not seal the log"],
    ),
    // With an id of its own, which the worker settles.
    (
        "INSERT INTO LOG (org_slug, COLUMNS) SELECT org_slug, COLUMNS FROM LOG WHERE id = 3",
        &["row 13 is in no block: it was invented or altered, or the server does not seal the log"],
    ),
    (
        "INSERT INTO LOG (id, org_slug, COLUMNS) OVERRIDING SYSTEM VALUE SELECT 3, 'another', COLUMNS FROM LOG WHERE id = 3",
        &["row 3 is in no block: it was invented or altered, or the server does not seal the log"],
    ),
    (
        "INSERT INTO LOG (org_slug, actor, session_role, acting_role, action, target_type, target_id, metadata)
         VALUES ('acme', 'a', 'a', 'a', 'a', 'integration', 'any', '{}')",
        &["row 13 is in no block and has no MAC: it was invented, or written while the server had no keyring"],
    ),
    (
        "UPDATE LOG SET id = -3 WHERE id = 3; UPDATE LOG SET id = 3 WHERE id = 4; UPDATE LOG SET id = 4 WHERE id = -3",
        &["row 3 of block 0 was moved: its id is now 4", "row 4 of block 0 was moved: its id is now 3"],
    ),
    (
        "INSERT INTO LOG (id, org_slug, COLUMNS) OVERRIDING SYSTEM VALUE
         SELECT 1000, org_slug, actor, session_role, acting_role, action, target_type, target_id, metadata, created_at,
             overlay(mac PLACING 'kunknown_'::bytea FROM 3) FROM LOG WHERE id = 3",
        &["row 1000 is in no block: it was invented or altered, or the server does not seal the log"],
    ),
    ("UPDATE LOG SET id = 500 WHERE id = 3", &["row 3 of block 0 was moved: its id is now 500"]),
    (
        "TRUNCATE LOG; DELETE FROM BLOCKS WHERE number > 0",
        &[
            "row 1 of block 0 was removed",
            "row 2 of block 0 was removed",
            "row 3 of block 0 was removed",
            "row 4 of block 0 was removed",
            "row 5 of block 0 was removed",
            "row 6 of block 0 was removed",
            "row 7 of block 0 was removed",
            CUT_AFTER_0,
            "the head of block 2 is not in the chain: the chain ends with block 0; later blocks were removed, or an older \
             dump was restored",
        ],
    ),
    (
        "UPDATE BLOCKS SET header = replace(header, E'\\n3\\n', E'\\n4\\n') WHERE number = 1",
        &[
            "block 1 was altered: its signature is not that of its header",
            "block 1 was altered: its list of rows is not that of its header",
            "block 2 was altered: it does not continue the block before it",
        ],
    ),
    (
        "UPDATE BLOCKS SET header = 'nothing' WHERE number = 1",
        &[
            "block 1 was altered: its header is truncated, or has a form that this release does not know",
            "row 8 is in no block: it was invented or altered, or the server does not seal the log",
            "row 9 is in no block: it was invented or altered, or the server does not seal the log",
            "row 10 is in no block: it was invented or altered, or the server does not seal the log",
        ],
    ),
    (
        "UPDATE BLOCKS SET signature = (SELECT signature FROM BLOCKS WHERE number = 2) WHERE number = 1",
        &["block 1 was altered: its signature is not that of its header"],
    ),
    (
        "UPDATE BLOCKS SET ids = ARRAY[9, 8, 10] WHERE number = 1",
        &["block 1 was altered: its list of rows is not that of its header"],
    ),
    (
        "UPDATE BLOCKS SET leaves = leaves || leaves WHERE number = 1",
        &["block 1 was altered: its list of rows is not that of its header"],
    ),
    (
        "UPDATE BLOCKS SET last_id = 9 WHERE number = 1",
        &["block 1 was altered: its number or its range is not that of its header"],
    ),
    (
        "DELETE FROM BLOCKS WHERE number = 1; DELETE FROM LOG WHERE id BETWEEN 8 AND 10",
        &["block 1 was removed"],
    ),
    (
        "DELETE FROM BLOCKS WHERE number < 2; DELETE FROM LOG WHERE id < 11",
        &["the blocks 0 to 1 were removed"],
    ),
    (
        "DELETE FROM BLOCKS WHERE number = 2; DELETE FROM LOG WHERE id > 10",
        &[
            CUT_AFTER_1,
            "the head of block 2 is not in the chain: the chain ends with block 1; later blocks were removed, or an older \
             dump was restored",
        ],
    ),
    // As if the last block had never been.
    (
        "UPDATE BLOCKS SET unsettled = '{11, 9223372036854775807}' WHERE number = 1;
         DELETE FROM BLOCKS WHERE number = 2; DELETE FROM LOG WHERE id > 10",
        &[
            "the head of block 2 is not in the chain: the chain ends with block 1; later blocks were removed, or an older \
             dump was restored",
        ],
    ),
    (
        "DELETE FROM BLOCKS; DELETE FROM LOG",
        &["the head of block 2 is not in the chain: there is no block; all were removed, or the server does not seal the log"],
    ),
    (
        "UPDATE BLOCKS SET ids = NULL, leaves = NULL WHERE number = 0; DELETE FROM LOG WHERE id < 8",
        &["the rows of block 0 were removed, and no audit row says that they were pruned"],
    ),
];

#[tokio::test]
async fn tampering_of_each_kind_is_named() {
    let mut cases = JoinSet::new();
    for &(statement, expected) in TAMPERING {
        cases.spawn(async move {
            let database = three_blocks(Cluster::shared()).await;
            let head = Kept::head(&database).await;
            assert_eq!(problems(&database, &head).await, [""; 0], "before it is tampered with");
            let names = [("LOG", LOG), ("BLOCKS", BLOCKS), ("COLUMNS", COLUMNS)];
            let statement =
                names.iter().fold(statement.to_owned(), |text, (from, to)| text.replace(from, to));
            let superuser = database.superuser().await;
            superuser
                .batch_execute(&format!("ALTER TABLE {LOG} ALTER id SET GENERATED BY DEFAULT"))
                .await
                .unwrap();
            superuser.batch_execute(&statement).await.unwrap();
            assert_eq!(problems(&database, &head).await, expected, "{statement}");
        });
    }
    while let Some(case) = cases.join_next().await {
        case.unwrap();
    }
}

/// The worker neither signs a row that the extension has not written, nor a block after one that was altered.
#[tokio::test]
async fn the_worker_vouches_for_nothing_that_was_tampered_with() {
    let cluster = Cluster::builder().setting("fsync", "off").start();
    let database = three_blocks(&cluster).await;
    let (admin, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    let invent = format!(
        "INSERT INTO {LOG} (id, org_slug, {COLUMNS}) OVERRIDING SYSTEM VALUE SELECT 14, org_slug, {COLUMNS} FROM {LOG} WHERE id = 3"
    );
    superuser.batch_execute(&invent).await.unwrap();
    set(&admin, ANY, "13").await.unwrap();
    let block = format!("SELECT FROM {BLOCKS} WHERE number = 3 AND ids = '{{13}}'");
    until(&superuser, &block).await;
    let head = Kept::head(&database).await;
    let invented = "row 14 is in no block: it was invented or altered, or the server does not seal the log";
    assert_eq!(problems(&database, &head).await, [invented]);

    superuser.batch_execute(&format!("DELETE FROM {LOG} WHERE id = 14")).await.unwrap();
    let edit = format!("UPDATE {BLOCKS} SET header = header || E'\\n' WHERE number = 3");
    superuser.batch_execute(&edit).await.unwrap();
    // The row of id 14, which is next.
    set(&admin, ANY, "14").await.unwrap();
    let refusal = "the newest block of the audit log was altered";
    let logged = async {
        while !cluster.log().contains(refusal) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), logged).await.expect("the worker says so");
    let count = format!("SELECT count(*) FROM {BLOCKS}");
    assert_eq!(superuser.query_one(&count, &[]).await.unwrap().get::<_, i64>(0), 4);
}

#[tokio::test]
async fn an_older_dump_is_told_from_the_log_by_a_head() {
    let cluster = Cluster::shared();
    let original = three_blocks(cluster).await;
    let before = Kept::head(&original).await;
    let restored = cluster.empty_database().await;
    dump_and_restore((cluster, &original), (cluster, &restored), &Canary::new()).await;
    set(&original.connect(ADMIN).await, ANY, "after-the-dump").await.unwrap();
    sealed(&original.superuser().await).await;
    let after = Kept::head(&original).await;

    assert_eq!(problems(&restored, &before).await, [""; 0], "the dump has all that the head has");
    let ends = "the head of block 3 is not in the chain: the chain ends with block 2; later blocks were removed, or an older \
                dump was restored";
    assert_eq!(problems(&restored, &after).await, [ends]);
    let superuser = restored.superuser().await;
    set(&superuser, ANY, "in-the-restored").await.unwrap();
    sealed(&superuser).await;
    let other = "the head of block 3 is not in the chain: there is another block of that number; the log was rewritten, or \
                 an older dump was restored";
    assert_eq!(problems(&restored, &after).await, [other]);
    assert_eq!(problems(&restored, &before).await, [""; 0], "it goes on from there");
}

/// What no one can tell without a head, and anyone can with one.
#[tokio::test]
async fn a_log_that_was_begun_anew_is_another() {
    let database = three_blocks(Cluster::shared()).await;
    let head = Kept::head(&database).await;
    let superuser = database.superuser().await;
    let anew = format!("DELETE FROM {BLOCKS}; UPDATE {LOG} SET mac = NULL, actor = 'another'");
    superuser.batch_execute(&anew).await.unwrap();
    set(&database.connect(ADMIN).await, ANY, "next").await.unwrap();
    sealed(&superuser).await;
    let without = audit(&database, &["verify"]).await.success();
    assert!(without.contains("12 of them from before the log had MACs"), "{without}");
    assert!(without.contains("without a head"), "{without}");
    let anew =
        "the head of block 2 is not in the chain: the head is of another database, or the log was begun anew";
    assert_eq!(problems(&database, &head).await, [anew]);
}
