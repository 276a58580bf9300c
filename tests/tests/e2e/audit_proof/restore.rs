//! A restore brings rows, blocks and sequences in any order and in several transactions, while the worker runs. It
//! never fails for that, and the restored log is as good as its original.

use super::{Kept, assert_clean, audit, problems, sealed, three_blocks};
use crate::helpers::calls::{ANY, set};
use std::{fs, time::Duration};
use tests::{ADMIN, Cluster, Database, SUPERUSER, Session, run};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// Three blocks, and three rows that are in none, with a hole between: the worker waits for a table meanwhile.
async fn source(cluster: &Cluster) -> (Database, Session) {
    let database = three_blocks(cluster).await;
    let lock = database.superuser().await;
    lock.batch_execute("BEGIN; LOCK TABLE integration_credentials.audit_blocks IN SHARE MODE").await.unwrap();
    let admin = database.connect(ADMIN).await;
    for value in ["13", "14"] {
        set(&admin, ANY, value).await.unwrap();
    }
    admin.batch_execute("BEGIN").await.unwrap();
    set(&admin, ANY, "15").await.unwrap();
    admin.batch_execute("ROLLBACK").await.unwrap();
    set(&admin, ANY, "16").await.unwrap();
    (database, lock)
}

/// Has the worker run all the time, as soon as there is the extension.
fn keep_sealing(database: &Database) -> JoinHandle<()> {
    let dsn = database.dsn(SUPERUSER);
    tokio::spawn(async move {
        let session = Session::open(&dsn).await;
        loop {
            let _ = session.batch_execute("SELECT integration_credentials.audit_seal()").await;
            sleep(Duration::from_millis(5)).await;
        }
    })
}

/// The restored log has all, the rows that were in no block as well, and goes on.
async fn assert_as_good(restored: &Database, head: &Kept) {
    let output = audit(restored, &["verify", "--head", head.path()]).await;
    assert_clean(&output);
    assert!(output.stdout.contains("15 rows in "), "{output:?}");
    let superuser = restored.superuser().await;
    set(&superuser, ANY, "17").await.unwrap();
    sealed(&superuser).await;
    assert_eq!(problems(restored, head).await, [""; 0], "it goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_of_any_format_restores_while_the_worker_runs() {
    let cluster = Cluster::shared();
    let (original, lock) = source(cluster).await;
    let head = Kept::head(&original).await;
    let mut dumps = Vec::new();
    for (format, options, restore) in [
        ("p", &[][..], None),
        ("p", &["--inserts"], None),
        ("t", &[], Some(&[][..])),
        ("c", &["--inserts"], Some(&[])),
        ("c", &[], Some(&["--single-transaction"])),
        ("c", &[], Some(&["-j", "2"])),
        ("d", &["--rows-per-insert=2"], Some(&["-j", "2"])),
        ("d", &[], Some(&["-j", "4"])),
    ] {
        let file = cluster.dir().join(format!("{}-{}", original.name(), dumps.len()));
        let dump = ["-F", format, "-f", file.to_str().unwrap()];
        let dumped = run(cluster.tool("pg_dump").args(dump).args(options).arg(original.name()), b"").await;
        assert_eq!(dumped.stderr, "");
        dumps.push((file, restore));
    }
    lock.batch_execute("ROLLBACK").await.unwrap();
    for (file, restore) in dumps {
        let restored = cluster.empty_database().await;
        let worker = keep_sealing(&restored);
        let mut tool = cluster.tool(if restore.is_some() { "pg_restore" } else { "psql" });
        let arguments = match restore {
            Some(options) => [&["--exit-on-error", "-d", restored.name()], options].concat(),
            None => vec!["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", restored.name(), "-f"],
        };
        let output = run(tool.args(arguments).arg(&file), b"").await;
        assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{restore:?}");
        worker.abort();
        assert_as_good(&restored, &head).await;
    }
}

/// Statement by statement, each in a transaction of its own, with a round of the worker after each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_is_in_no_restores_way_between_any_two_statements() {
    let cluster = Cluster::shared();
    let (original, lock) = source(cluster).await;
    let head = Kept::head(&original).await;
    let file = cluster.dir().join("statements.sql");
    let options = ["--inserts", "-f", file.to_str().unwrap(), original.name()];
    assert_eq!(run(cluster.tool("pg_dump").args(options), b"").await.stderr, "");
    lock.batch_execute("ROLLBACK").await.unwrap();
    let dump = fs::read_to_string(&file).unwrap();
    let [blocks, log, sequence] =
        ["audit_blocks", "webapp_org_admin_audit_log", "webapp_org_admin_audit_log_id_seq"];
    let statements: Vec<_> = dump.split_inclusive(";\n").collect();
    let of = |table: &str| {
        let insert = format!("INSERT INTO integration_credentials.{table} ");
        let set = format!("setval('integration_credentials.{table}'");
        let its = |statement: &&str| statement.contains(&insert) || statement.contains(&set);
        statements.iter().copied().filter(its).collect::<Vec<_>>()
    };
    let (blocks, log, sequence) = (of(blocks), of(log), of(sequence));
    assert_eq!((blocks.len(), log.len(), sequence.len()), (3, 15, 1));
    let ours = [blocks.as_slice(), &log, &sequence].concat();
    let others: String = statements.iter().filter(|statement| !ours.contains(statement)).copied().collect();

    let (first, last) = log.split_at(7);
    let orders = [
        [&sequence[..], first, &blocks[..1], last, &blocks[1..]],
        [&blocks[..2], &sequence, &blocks[2..], first, last],
        [last, &blocks[2..], first, &blocks[..2], &sequence],
    ];
    let mut cases = JoinSet::new();
    for order in orders {
        let steps: Vec<String> = order.iter().map(|lines| lines.concat()).collect();
        let (restored, others) = (cluster.empty_database().await, others.clone());
        cases.spawn(async move {
            let mut psql = cluster.tool("psql");
            let restore = psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", restored.name()]);
            assert_eq!(run(restore, others.as_bytes()).await.stderr, "");
            let superuser = restored.superuser().await;
            for step in steps {
                superuser.batch_execute(&step).await.unwrap();
                a_round(&superuser).await;
            }
            restored
        });
    }
    let restored: Vec<_> = cases.join_all().await;
    for restored in restored {
        assert_as_good(&restored, &head).await;
    }
}

/// Asks for the worker, and waits until it has come and gone.
async fn a_round(superuser: &Session) {
    let workers = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND backend_type LIKE '%maintenance'";
    for is_there in [true, false] {
        let wait = async {
            while (superuser.query_one(workers, &[]).await.unwrap().get::<_, i64>(0) > 0) != is_there {
                // It may be gone before it is seen.
                if is_there {
                    superuser.batch_execute("SELECT integration_credentials.audit_seal()").await.unwrap();
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("a worker comes and goes");
    }
}
