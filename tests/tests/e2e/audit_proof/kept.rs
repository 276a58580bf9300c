//! What leaves the database: heads, proofs and exports. And what the log may lose, by pruning.

use super::{Kept, assert_clean, audit, audit_as, problems, sealed, three_blocks};
use crate::helpers::calls::{ANY, set};
use serde_json::{Value, json};
use tests::{ADMIN, AUDITOR, Cluster, OUTSIDER, READER, document::root, intcred, run};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

/// Verifies without a database: there is none at that address.
async fn verify_proof(proof: &Kept, arguments: &[&str]) -> tests::Output {
    let offline = ["--dsn", "host=/nonexistent", "audit", "verify", "--proof", proof.path()];
    run(intcred().args(offline).args(arguments), b"").await
}

async fn python(proof: &Kept, key: &str) -> tests::Output {
    let verifier = root().join("docs/verify_audit_proof.py");
    run(Command::new("python3").arg(verifier).args([proof.path(), key]), b"").await
}

#[tokio::test]
async fn a_proof_verifies_offline_with_the_public_key_alone() {
    let database = three_blocks(Cluster::shared()).await;
    let head = Kept::head(&database).await;
    let key = head.json()["header"].as_str().unwrap().lines().last().unwrap().to_owned();
    for id in 1..=12 {
        let proof = Kept::new(&audit_as(&database, AUDITOR, &["prove", &id.to_string()]).await.success());
        let block = [7, 10].iter().filter(|&&last| id > last).count();
        for trust in [["--public-key", &key], ["--head", head.path()]] {
            let output = verify_proof(&proof, &trust).await.success();
            assert_eq!(output, format!("ok       row {id} is in block {block}\n"));
        }
        assert_eq!(python(&proof, &key).await.success(), format!("row {id} is in block {block}\n"));
    }
    let proof = Kept::new(&audit(&database, &["prove", "3"]).await.success());
    let untrusted = verify_proof(&proof, &[]).await.success();
    assert!(untrusted.contains(&format!("if you trust the public key {key}")), "{untrusted}");
}

#[tokio::test]
async fn a_proof_that_was_altered_proves_nothing() {
    let database = three_blocks(Cluster::shared()).await;
    let head = Kept::head(&database).await;
    let key = head.json()["header"].as_str().unwrap().lines().last().unwrap().to_owned();
    let proof = |id: &str| {
        let (database, id) = (database.clone(), id.to_owned());
        async move { Kept::new(&audit(&database, &["prove", &id]).await.success()).json() }
    };
    let (three, nine) = (proof("3").await, proof("9").await);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut altered = three.clone();
        change(&mut altered);
        altered
    };
    let header = three["header"].as_str().unwrap();
    for altered in [
        with(&|proof| proof["row"]["actor"] = json!("another")),
        with(&|proof| proof["row"]["id"] = json!(4)),
        with(&|proof| proof["row"]["createdAt"] = json!("2026-01-01T00:00:00.000000Z")),
        with(&|proof| proof["row"]["metadata"] = json!(r#"{"wasUpdate":false}"#)),
        with(&|proof| proof["row"]["mac"] = json!("")),
        with(&|proof| proof["row"] = nine["row"].clone()),
        with(&|proof| proof["index"] = json!(3)),
        with(&|proof| proof["index"] = json!(2_000_000)),
        with(&|proof| drop(proof["path"].as_array_mut().unwrap().pop())),
        with(&|proof| proof["path"].as_array_mut().unwrap().push(three["path"][0].clone())),
        with(&|proof| proof["header"] = nine["header"].clone()),
        with(&|proof| proof["header"] = json!(header.replace("\n7\n", "\n8\n"))),
        with(&|proof| proof["header"] = json!(&header[..header.len() - 1])),
        with(&|proof| proof["signature"] = nine["signature"].clone()),
        with(&|proof| proof["signature"] = json!("00")),
    ] {
        let altered = Kept::new(&altered.to_string());
        let output = verify_proof(&altered, &["--public-key", &key]).await;
        assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output:?} {}", altered.json());
        let output = python(&altered, &key).await;
        assert_ne!(output.code, 0, "{output:?} {}", altered.json());
    }
    // It is a proof, though not of what is trusted.
    let proof = Kept::new(&three.to_string());
    let other = verify_proof(&proof, &["--public-key", &"0".repeat(64)]).await;
    assert_eq!(other.code, 1, "{other:?}");
    assert!(other.stderr.contains("another key"), "{other:?}");
    assert_ne!(python(&proof, &"0".repeat(64)).await.code, 0);
}

#[tokio::test]
async fn bad_files_are_refused() {
    let database = three_blocks(Cluster::shared()).await;
    let elsewhere = three_blocks(Cluster::shared()).await;
    let another = Kept::head(&elsewhere).await;
    let of_another =
        "the head of block 2 is not in the chain: the head is of another database, or the log was begun anew";
    assert_eq!(problems(&database, &another).await, [of_another]);

    let head = Kept::head(&database).await;
    let text = head.json().to_string();
    let edited = text.replace("\\n12\\n", "\\n13\\n").replacen("\\n2\\n", "\\n1\\n", 1);
    for (content, code) in [(&text[..text.len() / 2], 1), (edited.as_str(), 1), ("", 1), ("{}", 1)] {
        let bad = Kept::new(content);
        let output = audit(&database, &["verify", "--head", bad.path()]).await;
        assert_eq!((output.code, output.stdout.as_str()), (code, ""), "{output:?}");
        assert!(output.stderr.contains("proves nothing"), "{output:?}");
    }
    let missing = audit(&database, &["verify", "--head", "/nonexistent/head.json"]).await;
    assert_eq!(missing.code, 2, "{missing:?}");
    let proof = audit(&database, &["prove", "13"]).await;
    assert_eq!((proof.code, proof.stdout.as_str()), (1, ""), "{proof:?}");
    let key = audit(&database, &["verify", "--proof", head.path(), "--public-key", "xyz"]).await;
    assert_eq!(key.code, 1, "{key:?}");
}

#[tokio::test]
async fn an_org_proves_and_exports_its_own_rows_only() {
    let database = Cluster::shared().database().await;
    let superuser = database.superuser().await;
    for org in ["acme", "evil"] {
        database.set_org(org).await;
        let admin = database.connect(ADMIN).await;
        crate::helpers::calls::register(&admin, ANY, json!({})).await.unwrap();
        set(&admin, ANY, "value").await.unwrap();
    }
    sealed(&superuser).await;
    let exported = audit_as(&database, AUDITOR, &["export"]).await.success();
    let rows: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2, "{exported}");
    assert!(rows.iter().all(|row| row["orgSlug"] == "evil" && row["block"].is_u64()), "{exported}");
    assert_eq!(audit_as(&database, AUDITOR, &["prove", "4"]).await.code, 0);
    let others = audit_as(&database, AUDITOR, &["prove", "2"]).await;
    assert_eq!((others.code, others.stdout.as_str()), (1, ""), "{others:?}");
    for role in [READER, ADMIN, OUTSIDER] {
        for command in [&["head"][..], &["prove", "4"], &["export"], &["verify"]] {
            let output = audit_as(&database, role, command).await;
            assert_eq!(output.code, 3, "{role} {command:?}: {output:?}");
        }
    }
    for command in [&["verify"][..], &["prune", "2026-01-01T00:00:00Z"]] {
        let output = audit_as(&database, AUDITOR, command).await;
        assert_eq!(output.code, 3, "{command:?}: {output:?}");
    }
}

#[tokio::test]
async fn an_export_goes_on_where_it_ended_and_follows() {
    let database = three_blocks(Cluster::shared()).await;
    let ids = |text: &str| {
        let id = |line| serde_json::from_str::<Value>(line).unwrap()["id"].as_i64().unwrap();
        text.lines().map(id).collect::<Vec<_>>()
    };
    let all = audit(&database, &["export"]).await.success();
    assert_eq!(ids(&all), (1..=12).collect::<Vec<_>>());
    let rest = audit(&database, &["export", "--after", "0"]).await.success();
    assert_eq!(ids(&rest), (8..=12).collect::<Vec<_>>());

    let mut follow = intcred();
    follow.args(["--dsn", &database.dsn(AUDITOR), "audit", "export", "--follow", "--after", "1"]);
    let mut child = follow.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || ids(&lines.next_line().await.unwrap().unwrap());
    assert_eq!([next().await, next().await], [[11], [12]]);
    // A transaction that began earlier commits later, and is not missed.
    let (admin, late) = (database.connect(ADMIN).await, database.connect(ADMIN).await);
    crate::helpers::calls::register(&admin, "other", json!({})).await.unwrap();
    late.batch_execute("BEGIN").await.unwrap();
    set(&late, "other", "late").await.unwrap();
    set(&admin, ANY, "early").await.unwrap();
    assert_eq!([next().await, next().await], [[13], [15]]);
    late.batch_execute("COMMIT").await.unwrap();
    assert_eq!(next().await, [14]);
}

#[tokio::test]
async fn pruning_keeps_headers_and_proofs_and_is_audited() {
    let database = three_blocks(Cluster::shared()).await;
    let superuser = database.superuser().await;
    let (head, proof) =
        (Kept::head(&database).await, Kept::new(&audit(&database, &["prove", "3"]).await.success()));
    let at =
        "SELECT split_part(header, E'\\n', 5) FROM integration_credentials.audit_blocks WHERE number = 2";
    let at: String = superuser.query_one(at, &[]).await.unwrap().get(0);
    let none = audit(&database, &["prune", "2020-01-01T00:00:00Z"]).await.success();
    assert_eq!(none, "pruned 0 rows of 0 blocks\n");
    let pruned = audit(&database, &["prune", &at]).await.success();
    assert_eq!(pruned, "pruned 10 rows of 2 blocks\n");
    // Waits for the row that says so.
    let output = audit(&database, &["verify", "--head", head.path()]).await;
    assert_clean(&output);
    assert!(output.stdout.contains("10 more rows were pruned"), "{output:?}");
    assert_eq!(verify_proof(&proof, &["--head", head.path()]).await.code, 0);
    let row = superuser
        .query_one(
            "SELECT id, action, target_type, target_id, metadata, session_role
             FROM integration_credentials.audit_log WHERE id > 12",
            &[],
        )
        .await
        .unwrap();
    let texts: Vec<&str> = (1..4).map(|column| row.get(column)).collect();
    assert_eq!((row.get::<_, i64>(0), texts), (13, vec!["prune_audit_log", "audit_log", "1"]));
    assert_eq!(row.get::<_, Value>(4), json!({"throughBlock": 1, "blocks": 2, "rows": 10}));
    let ids = "SELECT array_agg(id ORDER BY id) FROM integration_credentials.audit_log";
    assert_eq!(superuser.query_one(ids, &[]).await.unwrap().get::<_, Vec<i64>>(0), [11, 12, 13]);
    // Again, over all that there is, the row of the first pruning included.
    sealed(&superuser).await;
    let all = audit(&database, &["prune", "2200-01-01T00:00:00Z"]).await.success();
    assert_eq!(all, "pruned 3 rows of 2 blocks\n");
    assert_clean(&audit(&database, &["verify", "--head", head.path()]).await);
    let wrong = audit(&database, &["prune", "yesterday"]).await;
    assert_eq!(wrong.code, 2, "{wrong:?}");
}

#[tokio::test]
async fn a_head_is_printed_for_each_block_when_followed() {
    for command in [&["audit", "head", "--follow"][..], &["listen", "--heads"]] {
        let database = three_blocks(Cluster::shared()).await;
        let mut follow = intcred();
        follow.args(["--dsn", &database.dsn(AUDITOR)]).args(command);
        let mut child = follow.stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut next = async || loop {
            let line = lines.next_line().await.unwrap().unwrap();
            let json: Value = serde_json::from_str(&line).unwrap();
            // Other events of `listen` have no number.
            if let Some(number) = json["number"].as_u64() {
                break (number, Kept::new(&line));
            }
        };
        assert_eq!(next().await.0, 2);
        set(&database.connect(ADMIN).await, ANY, "next").await.unwrap();
        let (number, head) = next().await;
        assert_eq!(number, 3);
        // A line is a head.
        assert_eq!(problems(&database, &head).await, [""; 0], "{command:?}");
    }
    let database = Cluster::shared().database().await;
    let refused = run(intcred().args(["--dsn", &database.dsn(READER), "listen", "--heads"]), b"").await;
    assert_eq!(refused.code, 3, "{refused:?}");
}
