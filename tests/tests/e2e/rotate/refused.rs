//! Bad input: refused with a clear error, and nothing is changed.

use super::Rotation;
use crate::{
    command_line::assert_fails,
    helpers::calls::{ANY, register},
};
use serde_json::json;
use tests::{ADMIN, AUDITOR, Canary, OUTSIDER, READER, run};

/// Everything that a call could change, but for the metering of calls that fail.
async fn stored(rotation: &Rotation) -> String {
    let rows = "SELECT coalesce(string_agg(row::text, ' ' ORDER BY row::text), '') FROM (
        SELECT to_jsonb(c) AS row FROM integration_credentials.configured_integrations c
        UNION ALL SELECT to_jsonb(k) FROM integration_credentials.integration_catalog k
        UNION ALL SELECT to_jsonb(a) FROM integration_credentials.webapp_org_admin_audit_log a) r";
    rotation.superuser.query_one(rows, &[]).await.unwrap().get(0)
}

/// Panics unless each command is refused so, and changes nothing.
async fn assert_refused(rotation: &Rotation, cases: &[(&[&str], i32, &str)]) {
    let before = stored(rotation).await;
    for (arguments, code, message) in cases {
        let canary = Canary::new();
        let output = run(&mut rotation.intcred(arguments), canary.as_str().as_bytes()).await;
        assert_fails(&output, *code, message);
        canary.assert_absent(&output);
        assert!(stored(rotation).await == before, "{arguments:?} has changed something");
    }
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let rotation = Rotation::with_value("one").await;
    register(&rotation.admin, "strict", json!({"prefix": "good"})).await.unwrap();
    assert_refused(
        &rotation,
        &[
            (&["set", ANY, "--expires", "2020-01-31"], 1, "expiresAt is over"),
            (&["set", ANY, "--expires", "soon"], 2, "see --help"),
            (&["set", ANY, "--expires", "2027-02-30"], 2, "see --help"),
            (&["set", ANY, "--keep-previous", "-1d"], 2, "see --help"),
            (&["set", ANY, "--keep-previous", "long"], 2, "see --help"),
            (&["set", ANY, "--keep-previous", "11years"], 1, "keepPrevious is more than ten years"),
            (&["set", ANY, "--keep-previous", "1d", "--stage"], 2, "see --help"),
            (&["set", ANY, "--expected-revision", "x"], 2, "see --help"),
            (&["set", ANY, "--expected-revision", "7"], 1, "has revision 1, and the call expects 7\nhint: "),
            (&["set", ANY, "--expected-revision", "0"], 1, "has revision 1, and the call expects 0"),
            (&["set", "strict", "--dry-run"], 1, "the value does not begin with \"good\""),
            (&["set", "strict", "--stage"], 1, "the value does not begin with \"good\""),
            (&["set", "nowhere", "--dry-run"], 1, "the catalog has no integration with this key"),
            (&["get", ANY, "--which", "oldest"], 2, "see --help"),
            (&["list", "--expiring", "soon"], 2, "see --help"),
            (&["catalog", "keep-previous", ANY, "-1d"], 2, "see --help"),
            (&["catalog", "keep-previous", ANY, "11years"], 1, "more than ten years"),
            (
                &["catalog", "keep-previous", "nowhere", "1d"],
                1,
                "the catalog has no integration with this key",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn steps_without_their_value_are_refused() {
    let rotation = Rotation::with_value("one").await;
    assert_refused(
        &rotation,
        &[
            (&["promote", ANY], 1, "no value is pending for integration \"any\"\nhint: "),
            (&["promote", "slack"], 1, ""),
            (&["discard", ANY], 1, "no value is pending"),
            (&["rollback", ANY], 1, "no previous value is kept for integration \"any\"\nhint: "),
            (&["rollback", ANY, "--expected-revision", "7"], 1, ""),
            (&["retire", ANY], 1, "no previous value is kept"),
            (&["retire", ANY, "--force"], 1, "no previous value is kept"),
            (&["get", ANY, "--which", "previous"], 1, "no previous value is kept"),
            (&["get", ANY, "--which", "pending"], 1, "no value is pending"),
            (&["promote", "nowhere"], 1, "the catalog has no integration with this key"),
            (&["rotate", ANY, "--abort"], 1, "no rotation of any is in progress"),
            (&["rotate", "nowhere"], 1, "the catalog has no integration with this key"),
            (&["rotate", ANY, "--abort", "--resume"], 2, "see --help"),
            (&["rotate", ANY, "--detach", "--revoke", "true"], 2, "see --help"),
            (&["rotate", ANY, "--resume", "--value-file", "x"], 2, "see --help"),
            (&["rotate", ANY, "--test", ""], 2, "see --help"),
            (&["rotate", ANY, "--exec-timeout", "0", "--test", "true"], 2, "see --help"),
        ],
    )
    .await;
}

#[tokio::test]
async fn second_rotation_and_a_value_that_is_there_are_refused() {
    let rotation = Rotation::with_value("one").await;
    let output = run(&mut rotation.intcred(&["rotate", ANY]), b"one").await;
    assert_fails(&output, 1, "any has this value already");

    assert_eq!(rotation.run(&["set", ANY, "--stage"], "two").await.code, 0);
    assert_refused(&rotation, &[(&["rotate", ANY], 1, "any has a staged value already\nhint: ")]).await;
    assert_eq!(rotation.run(&["promote", ANY], "").await.code, 0);
    let message = "any still keeps the value of revision 1 for 23h 59m, which may not be revoked yet";
    assert_refused(&rotation, &[(&["rotate", ANY], 1, message)]).await;
    // Nor is a value promoted that was staged meanwhile: the promotion would drop the old one.
    assert_eq!(rotation.run(&["set", ANY, "--stage"], "three").await.code, 0);
    let message = "any still keeps the value of revision 1, and has a staged value\nhint: ";
    assert_refused(&rotation, &[(&["rotate", ANY, "--resume"], 1, message)]).await;
    assert_eq!(rotation.steps(&["--abort"], "").await, ["discard"]);

    // A revocation of the current value would be an outage.
    assert_eq!(rotation.run(&["retire", ANY, "--force"], "").await.code, 0);
    assert_eq!(rotation.run(&["set", ANY, "--stage"], "two").await.code, 0);
    assert_eq!(rotation.run(&["promote", ANY], "").await.code, 0);
    let output = rotation.run(&["rotate", ANY, "--resume", "--revoke", "touch $DIR/revoked"], "").await;
    assert!(output.code == 1 && output.stderr.contains("is also the current one"), "{output:?}");
    assert!(!rotation.path("revoked").exists());
}

#[tokio::test]
async fn roles_do_what_their_group_may() {
    let rotation = Rotation::with_value("one").await;
    assert_eq!(rotation.run(&["set", ANY, "--stage"], "two").await.code, 0);
    let as_role = async |role: &str, arguments: &[&str]| {
        run(&mut crate::command_line::intcred_as(&rotation.database, role, arguments), b"a-value").await
    };
    let denied = "permission denied";
    for (role, arguments) in [
        (READER, &["promote", ANY][..]),
        (READER, &["discard", ANY]),
        (READER, &["rollback", ANY]),
        (READER, &["retire", ANY]),
        (READER, &["set", ANY, "--stage"]),
        (READER, &["find"]),
        (READER, &["check"]),
        (READER, &["catalog", "keep-previous", ANY, "1d"]),
        (ADMIN, &["get", ANY, "--which", "pending"]),
        (AUDITOR, &["get", ANY, "--which", "previous"]),
        (OUTSIDER, &["status"]),
        (OUTSIDER, &["find"]),
    ] {
        assert_fails(&as_role(role, arguments).await, 3, denied);
    }
    for role in [ADMIN, READER, AUDITOR] {
        assert_eq!(as_role(role, &["status", ANY]).await.code, 0, "{role}");
    }
    // A rotation that would need to read is refused before its first change.
    assert_eq!(rotation.run(&["discard", ANY], "").await.code, 0);
    for option in ["--test", "--revoke"] {
        for more in [&[][..], &["--resume"]] {
            let output = as_role(ADMIN, &[&["rotate", ANY, option, "true"], more].concat()).await;
            assert_fails(
                &output,
                3,
                "the role may not read credentials, which --test and --revoke need\nhint: ",
            );
        }
    }
    let output = as_role(ADMIN, &["rotate", ANY]).await;
    assert_eq!(output.code, 0, "{output:?}");
}
