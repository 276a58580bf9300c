//! `intcred doctor`: what is wrong is found, what it says to do is enough, and what it may not see it says.

use crate::audit_proof::sealed;
use crate::command_line::{Terminal, intcred_as};
use serde_json::Value;
use std::{
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::PermissionsExt,
};
use tests::{
    ADMIN, Cluster, Database, OUTSIDER, Output, READER, SUPERUSER, installation::Installation, intcred, run,
};

async fn doctor(database: &Database, role: &str, arguments: &[&str]) -> Output {
    run(intcred().args(["--dsn", &database.dsn(role), "doctor"]).args(arguments), b"").await
}

/// The exit status and the report.
async fn report(database: &Database, role: &str, arguments: &[&str]) -> (i32, Value) {
    let (code, mut report) = report_as_it_is(database, role, arguments).await;
    // Not every package of Postgres is of the newest minor release, and what it lacks is no matter of the cluster.
    let mut excused = 0;
    for finding in report["findings"].as_array_mut().unwrap() {
        if finding["check"] == "server-version" && finding["verdict"] == "problem" {
            finding["verdict"] = "ok".into();
            finding["fix"] = Value::Null;
            excused += 1;
        }
    }
    let problems = report["problems"].as_u64().unwrap() - excused;
    report["problems"] = problems.into();
    (if (code, problems) == (1, 0) { 0 } else { code }, report)
}

/// Whether a run of any command did well, but for the doctor's word on the minor release.
pub fn is_well(output: &Output) -> bool {
    let mut problems = output.stdout.lines().filter(|line| line.starts_with("problem ")).peekable();
    output.code == 0
        || output.code == 1
            && problems.peek().is_some()
            && problems.all(|line| line.starts_with("problem  server-version "))
}

async fn report_as_it_is(database: &Database, role: &str, arguments: &[&str]) -> (i32, Value) {
    let output = doctor(database, role, &[&["--json"], arguments].concat()).await;
    let report = serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.code, report)
}

fn findings(report: &Value) -> impl Iterator<Item = [&str; 3]> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|finding| ["check", "verdict", "found"].map(|name| finding[name].as_str().unwrap()))
}

fn with_verdict<'a>(report: &'a Value, verdict: &str) -> Vec<[&'a str; 2]> {
    findings(report).filter(|it| it[1] == verdict).map(|[check, _, found]| [check, found]).collect()
}

fn fixes<'a>(report: &'a Value, kind: &str) -> Vec<&'a str> {
    let fixes = report["findings"].as_array().unwrap().iter().map(|finding| &finding["fix"]);
    fixes.filter(|fix| fix["kind"] == kind).map(|fix| fix["text"].as_str().unwrap()).collect()
}

async fn good(cluster: &Cluster) -> Database {
    let database = cluster.database().await;
    database.set_org("acme").await;
    database
}

#[tokio::test]
async fn a_good_cluster_has_no_problem_whoever_looks() {
    let cluster = Cluster::private();
    let database = good(&cluster).await;
    let (code, seen) = report(&database, SUPERUSER, &[]).await;
    assert_eq!((code, &seen["problems"], &seen["applied"]), (0, &Value::from(0), &Value::from(vec![0; 0])));
    assert_eq!(with_verdict(&seen, "unknown"), [[""; 2]; 0]);
    let advice = with_verdict(&seen, "advice");
    assert!(advice.iter().all(|[check, _]| *check == "literals"), "{advice:?}");
    for [check, found] in [["groups", ADMIN], ["keyring", "new values are encrypted with key k"]] {
        assert!(findings(&seen).any(|it| it[0] == check && it[2].contains(found)), "{seen}");
    }

    for (role, keyring) in [(ADMIN, "ok"), (READER, "unknown"), (OUTSIDER, "unknown")] {
        let (code, seen) = report(&database, role, &[]).await;
        assert_eq!(code, 0, "{role}: {seen}");
        let verdict = |check| findings(&seen).find(|it| it[0] == check).unwrap()[1].to_owned();
        assert_eq!(verdict("keyring"), keyring, "{role}");
        for check in ["preload-order", "keyring-place", "passwords"] {
            assert_eq!(verdict(check), "unknown", "{role} {check}");
        }
        for check in [
            "preload",
            "org",
            "public",
            "definer-functions",
            "log-min-messages",
            "lc-messages",
            "publications",
            "server-version",
        ] {
            assert_eq!(verdict(check), "ok", "{role} {check}");
        }
        for [_, found] in with_verdict(&seen, "unknown") {
            assert!(found.contains("permission denied") || found.starts_with("must be superuser"), "{found}");
            assert!(found.ends_with("run the check as a superuser"), "{found}");
        }
    }
}

const MEMBERS: [&str; 5] = ["check", "fix", "found", "verdict", "why"];
const CHECKS: [&str; 28] = [
    "extension",
    "preload",
    "preload-order",
    "keyring",
    "keyring-place",
    "missing-keys",
    "unneeded-keys",
    "org",
    "org-grants",
    "public",
    "tables",
    "definer-functions",
    "groups",
    "bypass",
    "role-settings",
    "logging",
    "log-min-messages",
    "lc-messages",
    "literals",
    "expiry",
    "rotations",
    "publications",
    "tls",
    "ids",
    "audit",
    "password-encryption",
    "passwords",
    "server-version",
];

#[tokio::test]
async fn the_report_is_a_table_for_people_and_json_for_programs() {
    let database = Cluster::shared().database().await;
    let (_, seen) = report(&database, SUPERUSER, &[]).await;
    assert_eq!(seen.as_object().unwrap().keys().collect::<Vec<_>>(), ["applied", "findings", "problems"]);
    for finding in seen["findings"].as_array().unwrap() {
        assert_eq!(finding.as_object().unwrap().keys().collect::<Vec<_>>(), MEMBERS);
    }
    let mut checks: Vec<_> = findings(&seen).map(|it| it[0]).collect();
    checks.dedup();
    assert_eq!(checks, CHECKS);

    let Output { code, stdout, stderr } = doctor(&database, SUPERUSER, &[]).await;
    assert_eq!(code, 1);
    assert_eq!(seen["problems"], 1);
    let problems = &report_as_it_is(&database, SUPERUSER, &[]).await.1["problems"];
    assert!(stderr.contains(&format!("intcred: {problems} problem(s) found\nhint: ")), "{stderr}");
    let lines: Vec<_> = stdout.lines().collect();
    assert!(lines[0].starts_with("VERDICT  CHECK"), "{stdout}");
    let unset = lines.iter().position(|line| line.starts_with("problem  org ")).expect("the org is not set");
    let why = lines
        .iter()
        .position(|line| line.starts_with("org: Unset, the org is the name"))
        .expect("why it matters");
    let name = database.name();
    let fix = format!("    ALTER DATABASE {name} SET integration_credentials.org_slug = '{name}';");
    assert_eq!((unset < why, lines[why + 1]), (true, fix.as_str()), "{stdout}");
}

#[tokio::test]
async fn a_credential_that_expires_and_a_rotation_that_waits_are_found() {
    let cluster = Cluster::private();
    let database = good(&cluster).await;
    let superuser = database.superuser().await;
    let script = "
        SELECT integration_credentials.admin_set_integration_credentials('slack', 'xoxb-1234567890-value', 'test');
        SELECT integration_credentials.admin_set_integration_credentials('stripe', 'sk_live_1234567890abcdefghijklmn', 'test');
        SELECT integration_credentials.report_held_revisions(
            gen_random_uuid(), 'web-1', '{\"slack\": [0, 0]}', '5 min');
        UPDATE integration_credentials.lease_epoch SET began_at = now() - interval '1 day';
        UPDATE integration_credentials.configured_integrations
        SET updated_at = now() - interval '2 days', created_at = now() - interval '3 days',
            expires_at = CASE integration_key WHEN 'slack' THEN '2020-01-31'::timestamptz ELSE now() + interval '2 days' END";
    superuser.batch_execute(script).await.unwrap();
    let (code, seen) = report(&database, SUPERUSER, &[]).await;
    assert_eq!(code, 1);
    assert_eq!(with_verdict(&seen, "problem"), [["expiry", "the credential of slack expired on 2020-01-31"]]);
    let advice = with_verdict(&seen, "advice");
    assert!(
        advice
            .iter()
            .any(|[check, found]| *check == "expiry"
                && found.starts_with("the credential of stripe expires on ")),
        "{advice:?}"
    );
    let waiting = ["rotations", "the rotation of slack waits for a day or longer: web-1"];
    assert!(advice.contains(&waiting), "{advice:?}");
}

#[tokio::test]
async fn audit_rows_that_are_in_no_block_are_found() {
    let cluster = Cluster::private();
    let database = good(&cluster).await;
    let superuser = database.superuser().await;
    // As from a dump of an earlier version: no chain begins before the first change.
    let restore = "
        INSERT INTO integration_credentials.webapp_org_admin_audit_log
            (org_slug, actor, session_role, acting_role, action, target_type, target_id, metadata, created_at)
        VALUES ('acme', 'a', 'a', 'a', 'a', 'integration', 'slack', '{}', now() - interval '2 minutes')";
    superuser.batch_execute(restore).await.unwrap();
    let (code, seen) = report(&database, SUPERUSER, &[]).await;
    assert_eq!(code, 1);
    let waiting = ["audit", "1 audit rows have been in no signed block for a minute or longer"];
    assert_eq!(with_verdict(&seen, "problem"), [waiting]);
    assert_eq!(fixes(&seen, "sql"), ["SELECT integration_credentials.audit_seal();"]);

    let change = "SELECT integration_credentials.admin_set_integration_credentials('slack', 'xoxb-1234567890-value', 'test')";
    superuser.batch_execute(change).await.unwrap();
    sealed(&superuser).await;
    let (code, seen) = report(&database, SUPERUSER, &[]).await;
    assert_eq!(code, 0, "{seen}");
}

/// A cluster with something wrong for nearly every check, and names that need quotes.
async fn bad() -> (Cluster, Database) {
    let cluster = Cluster::builder()
        .preload("auto_explain")
        .preload("pg_stat_statements")
        .setting("log_statement", "all")
        .setting("log_min_duration_statement", "0")
        .setting("debug_print_parse", "on")
        .setting("auto_explain.log_min_duration", "0")
        .setting("password_encryption", "md5")
        .start();
    let database = cluster.database().await;
    let schema = "integration_credentials";
    let script = format!(
        r#"GRANT USAGE ON SCHEMA {schema} TO PUBLIC;
        GRANT SELECT (integration_key) ON {schema}.integration_catalog TO PUBLIC;
        GRANT EXECUTE ON FUNCTION {schema}.get_integration_credentials(text) TO PUBLIC;
        CREATE FUNCTION {schema}."New one"("a b" text) RETURNS void LANGUAGE sql SECURITY DEFINER BEGIN ATOMIC END;
        ALTER FUNCTION {schema}.describe_integrations() RESET search_path;
        CREATE ROLE "O'Brien ""x""" LOGIN REPLICATION BYPASSRLS CREATEROLE PASSWORD 'x'
            IN ROLE {schema}_admin, {schema}_reader, pg_read_server_files, pg_monitor;
        GRANT UPDATE ON {schema}.configured_integrations TO "O'Brien ""x""";
        ALTER ROLE "O'Brien ""x""" SET debug_print_plan = true;
        ALTER ROLE {ADMIN} IN DATABASE {name} SET debug_print_rewritten = on;
        ALTER DATABASE {name} SET client_min_messages = debug1;
        ALTER ROLE {READER} SET debug_print_plan = on;
        ALTER ROLE {ADMIN} SET log_min_duration_statement = '1s';
        GRANT SET ON PARAMETER {schema}.org_slug TO PUBLIC;
        GRANT SET ON PARAMETER {schema}.org_slug TO {READER};
        CREATE ROLE dave SUPERUSER;
        DROP ROLE {schema}_auditor"#,
        name = database.name()
    );
    let elsewhere = cluster.named_database("postgres").superuser().await;
    let superuser = database.superuser().await;
    superuser.batch_execute(&format!("DROP OWNED BY {schema}_auditor; {script}")).await.unwrap();
    drop(superuser);
    let rename = format!(r#"ALTER DATABASE {} RENAME TO "Odd-Name""#, database.name());
    // The session that ended may not be gone yet.
    while elsewhere.batch_execute(&rename).await.is_err_and(|error| error.code().unwrap().code() == "55006") {
    }
    fs::set_permissions(cluster.keyring_file(), Permissions::from_mode(0o644)).unwrap();
    let database = cluster.named_database("Odd-Name");
    (cluster, database)
}

#[tokio::test]
async fn a_bad_cluster_becomes_a_good_one_by_doing_what_it_says() {
    let (mut cluster, database) = bad().await;
    let (code, seen) = report(&database, SUPERUSER, &[]).await;
    assert_eq!(code, 1);
    assert_eq!(with_verdict(&seen, "unknown"), [[""; 2]; 0]);
    let schema = "integration_credentials";
    let problems = [
        ["preload-order", &format!("loaded after {schema}: auto_explain, pg_stat_statements")],
        [
            "keyring",
            "cannot use the keyring: the file has permissions 0644; a file of the server's user must have 0600 or less",
        ],
        ["org", "org_slug is not set, so the org is the name of the database, \"Odd-Name\""],
        ["org-grants", &format!("PUBLIC has SET on the setting {schema}.org_slug")],
        ["public", &format!("PUBLIC has EXECUTE on ROUTINE {schema}.\"New one\"(text)")],
        ["public", &format!("PUBLIC has EXECUTE on ROUTINE {schema}.get_integration_credentials(text)")],
        ["public", &format!("PUBLIC has USAGE on SCHEMA {schema}")],
        ["public", &format!("PUBLIC has SELECT on TABLE {schema}.integration_catalog")],
        ["tables", &format!("\"O'Brien \"\"x\"\"\" has UPDATE on {schema}.configured_integrations")],
        [
            "definer-functions",
            &format!("{schema}.\"New one\"(text) runs as its owner with the search_path of its caller"),
        ],
        [
            "definer-functions",
            &format!("{schema}.describe_integrations() runs as its owner with the search_path of its caller"),
        ],
        ["role-settings", "DATABASE \"Odd-Name\": client_min_messages=debug1"],
        ["role-settings", "ROLE \"O'Brien \"\"x\"\"\": debug_print_plan=true"],
        ["role-settings", &format!("ROLE {ADMIN} IN DATABASE \"Odd-Name\": debug_print_rewritten=on")],
        ["password-encryption", "password_encryption = md5"],
        ["passwords", "the password of \"O'Brien \"\"x\"\"\" is stored as MD5"],
    ];
    assert_eq!(with_verdict(&seen, "problem"), problems);
    let advice = [
        ["org-grants", &format!("{READER} has SET on the setting {schema}.org_slug")],
        ["groups", &format!("there is no role {schema}_auditor")],
        ["groups", &format!("{ADMIN} can both set and read")],
        ["groups", "\"O'Brien \"\"x\"\"\" can both set and read"],
        ["bypass", "\"O'Brien \"\"x\"\"\" may bypass row-level security"],
        ["bypass", "\"O'Brien \"\"x\"\"\" may copy the whole cluster, as a replica does"],
        ["bypass", "\"O'Brien \"\"x\"\"\" may make itself a member of any role"],
        ["bypass", "\"O'Brien \"\"x\"\"\" reads any file of the server, as a member of pg_read_server_files"],
        [
            "bypass",
            "\"O'Brien \"\"x\"\"\" sees the statements of other sessions, as a member of pg_read_all_stats",
        ],
        ["bypass", "dave is a superuser"],
        ["role-settings", &format!("ROLE {ADMIN}: log_min_duration_statement=1s")],
        ["logging", "auto_explain.log_min_duration = 0"],
        ["logging", "auto_explain.log_parameter_max_length = -1"],
        ["logging", "debug_print_parse = on"],
        ["logging", "log_min_duration_statement = 0"],
        ["logging", "log_parameter_max_length = -1"],
        ["logging", "log_statement = all"],
        ["logging", "pg_stat_statements.track_utility = on"],
    ];
    let found = with_verdict(&seen, "advice").into_iter().filter(|[check, _]| *check != "literals");
    // Since 16, who may create roles is no member of others, and auto_explain can show parameters.
    let (before, since) = ("may make itself a member of any role", "auto_explain.log_parameter_max_length");
    let other = if Installation::find().major() < 16 { since } else { before };
    let advice = advice.into_iter().filter(|[_, found]| !found.contains(other));
    assert!(found.eq(advice), "{seen}");

    // Somebody without rights sees what the catalogs show to all, and no more.
    let (code, theirs) = report(&database, OUTSIDER, &[]).await;
    assert_eq!(code, 1);
    assert!(with_verdict(&theirs, "problem").contains(&problems[2]), "{theirs}");

    // Nothing is run unseen or unasked, nor by somebody who may not.
    let output = doctor(&database, SUPERUSER, &["--fix"]).await;
    assert_eq!((output.code, output.stdout.as_str()), (2, ""));
    assert!(output.stderr.contains("intcred: to be run: REVOKE ALL ON SCHEMA"), "{output:?}");
    assert_eq!(doctor(&database, OUTSIDER, &["--fix", "--yes"]).await.code, 3);
    assert_eq!(report(&database, SUPERUSER, &[]).await.1, seen);

    let declined = intcred_as(&database, SUPERUSER, &["doctor", "--fix"]);
    let mut terminal = Terminal::start(&declined);
    terminal.reply("Run them? [y/N] ", "n\n").await;
    assert_eq!(terminal.end().await.0, 1);
    assert_eq!(report(&database, SUPERUSER, &[]).await.1, seen);

    let (code, seen) = report(&database, SUPERUSER, &["--fix", "--yes"]).await;
    assert_eq!(code, 1);
    assert_eq!(seen["applied"].as_array().unwrap().len(), 12);
    let left: Vec<_> = with_verdict(&seen, "problem").into_iter().map(|[check, _]| check).collect();
    assert_eq!(left, ["preload-order", "keyring", "password-encryption", "passwords"]);
    assert_eq!(fixes(&seen, "sql"), [""; 0]);

    // The rest is for the operator: the lines for postgresql.conf as they stand, and what is to be done by hand.
    let mut settings = File::options().append(true).open(cluster.data_dir().join("postgresql.conf")).unwrap();
    for line in fixes(&seen, "reload").into_iter().chain(fixes(&seen, "restart")) {
        writeln!(settings, "{line}").unwrap();
    }
    fs::set_permissions(cluster.keyring_file(), Permissions::from_mode(0o600)).unwrap();
    let superuser = database.superuser().await;
    for statement in fixes(&seen, "byHand").into_iter().filter(|fix| fix.starts_with("ALTER ROLE")) {
        superuser.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
    cluster.restart();
    let superuser = database.superuser().await;
    superuser.batch_execute(r#"ALTER ROLE "O'Brien ""x""" PASSWORD 'new'"#).await.unwrap();
    assert!(run(intcred().args(["--dsn", &database.dsn(SUPERUSER), "grant"]), b"").await.code == 0);
    let (code, seen) = report(&database, SUPERUSER, &["--fix", "--yes"]).await;
    assert_eq!((code, with_verdict(&seen, "problem")), (0, Vec::new()), "{seen}");
    let left: Vec<_> = with_verdict(&seen, "advice").into_iter().map(|[check, _]| check).collect();
    assert!(
        left.iter().all(|check| ["org-grants", "groups", "bypass", "literals"].contains(check)),
        "{seen}"
    );
}

#[tokio::test]
async fn what_is_missing_altogether_is_found() {
    let cluster = Cluster::builder().without_preload().tcp().setting("listen_addresses", "0.0.0.0").start();
    let database = cluster.empty_database().await;
    let (code, seen) = report(&database, SUPERUSER, &[]).await;
    assert_eq!(code, 1);
    let problems = with_verdict(&seen, "problem");
    for problem in [
        ["extension", "this database does not have the extension"],
        ["preload", "the library is not preloaded"],
        ["tls", "ssl is off, and the server listens on 0.0.0.0"],
    ] {
        assert!(problems.contains(&problem), "{problems:?}");
    }
    assert_eq!(fixes(&seen, "restart"), ["shared_preload_libraries = 'integration_credentials'"]);

    let superuser = database.superuser().await;
    superuser.batch_execute("CREATE EXTENSION integration_credentials").await.unwrap();
    let (_, seen) = report(&database, SUPERUSER, &[]).await;
    let problem = ["keyring", "the library integration_credentials is not preloaded"];
    assert!(with_verdict(&seen, "problem").contains(&problem), "{seen}");
}

#[tokio::test]
async fn a_keyring_that_every_backup_carries_is_found() {
    let cluster = Cluster::builder().start();
    let inside = cluster.data_dir().join("keyring.json");
    fs::rename(cluster.keyring_file(), &inside).unwrap();
    let superuser = cluster.named_database("postgres").superuser().await;
    let alter = format!("ALTER SYSTEM SET integration_credentials.keyring_file = '{}'", inside.display());
    superuser.batch_execute(&alter).await.unwrap();
    cluster.reload();
    let database = good(&cluster).await;
    let mut seen = report(&database, SUPERUSER, &[]).await.1;
    while findings(&seen).any(|it| it[0] == "keyring" && it[1] != "ok") {
        // The postmaster takes up the reload a moment later.
        seen = report(&database, SUPERUSER, &[]).await.1;
    }
    let problem = ["keyring-place", "the keyring is in the data directory, and so in every base backup"];
    assert_eq!(with_verdict(&seen, "problem"), [problem]);
}

#[tokio::test]
async fn messages_that_no_library_sees_or_that_are_in_another_language_are_worth_a_word() {
    let mut cluster = Cluster::private();
    let database = good(&cluster).await;
    let mine = async |cluster: &Cluster| {
        let (code, seen) = report(&database, SUPERUSER, &[]).await;
        assert_eq!(code, 0, "{seen}\n{}", cluster.log());
        let advice = with_verdict(&seen, "advice").into_iter();
        let advice = advice.filter(|[check, _]| !["literals", "bypass"].contains(check));
        advice.map(|it| it.map(str::to_owned)).collect::<Vec<_>>()
    };
    let path = cluster.data_dir().join("postgresql.conf");
    let before = fs::read_to_string(&path).unwrap();
    // English, by any name that an operating system has for it.
    for (setting, expected) in [
        ("lc_messages = 'POSIX'", None),
        ("lc_messages = 'C.UTF-8'", None),
        ("log_min_messages = error", None),
        ("log_min_messages = log", Some(["log-min-messages", "log_min_messages = log"])),
        ("log_min_messages = fatal", Some(["log-min-messages", "log_min_messages = fatal"])),
        ("log_min_messages = panic", Some(["log-min-messages", "log_min_messages = panic"])),
    ] {
        fs::write(&path, format!("{before}\n{setting}\n")).unwrap();
        cluster.restart();
        assert_eq!(mine(&cluster).await, expected.into_iter().collect::<Vec<_>>(), "{setting}");
    }

    // What only the environment of the server says. No language but English is sure to be installed here.
    let unsaid: Vec<_> = before.lines().filter(|line| !line.starts_with("lc_messages")).collect();
    fs::write(&path, unsaid.join("\n")).unwrap();
    cluster.restart();
    assert_eq!(mine(&cluster).await, [["lc-messages", "lc_messages = ''"]]);
    let (_, seen) = report(&database, SUPERUSER, &[]).await;
    let fix = "lc_messages = 'C'";
    assert!(fixes(&seen, "reload").contains(&fix), "{seen}");

    // What it says to do is enough, and what a role says for itself is found.
    fs::write(&path, unsaid.join("\n") + "\n" + fix + "\n").unwrap();
    cluster.restart();
    assert_eq!(mine(&cluster).await, [[""; 2]; 0]);
    let superuser = database.superuser().await;
    let settings = "{lc_messages=de_DE.UTF-8,log_min_messages=panic}";
    let statement = format!("INSERT INTO pg_db_role_setting VALUES (0, '{ADMIN}'::regrole, '{settings}')");
    superuser.batch_execute(&statement).await.unwrap();
    let found = ["lc_messages=de_DE.UTF-8", "log_min_messages=panic"];
    let found = found.map(|entry| ["role-settings".to_owned(), format!("ROLE {ADMIN}: {entry}")]);
    assert_eq!(mine(&cluster).await, found);
    let english =
        "UPDATE pg_db_role_setting SET setconfig = '{lc_messages=en_US.UTF-8,log_min_messages=error}'
                   WHERE setrole <> 0";
    superuser.batch_execute(english).await.unwrap();
    assert_eq!(mine(&cluster).await, [[""; 2]; 0]);
}

#[tokio::test]
async fn a_publication_of_the_tables_is_worth_a_word_and_of_others_is_not() {
    let cluster = Cluster::builder().setting("wal_level", "logical").start();
    let database = good(&cluster).await;
    let superuser = database.superuser().await;
    let schema = "integration_credentials";
    let mine = async || {
        let (code, seen) = report(&database, SUPERUSER, &[]).await;
        assert_eq!(code, 0, "{seen}");
        let mut advice = with_verdict(&seen, "advice");
        advice.retain(|[check, _]| *check == "publications");
        let found = advice.into_iter().map(|[_, found]| found.to_owned()).collect::<Vec<_>>();
        let fixes = fixes(&seen, "byHand").into_iter().map(str::to_owned).collect::<Vec<_>>();
        (found, fixes)
    };
    superuser
        .batch_execute("CREATE TABLE public.other (); CREATE PUBLICATION others FOR TABLE public.other")
        .await
        .unwrap();
    assert_eq!(mine().await.0, [""; 0]);

    let script = format!(
        r#"CREATE PUBLICATION "All of it" FOR ALL TABLES;
        CREATE PUBLICATION several FOR TABLE {schema}.tool_metering, public.other;
        CREATE PUBLICATION whole FOR TABLES IN SCHEMA {schema}"#
    );
    superuser.batch_execute(&script).await.unwrap();
    let (found, fixes) = mine().await;
    let all = "the publication \"All of it\" is FOR ALL TABLES, and so includes the tables of the extension";
    let several = format!("the publication several publishes {schema}.tool_metering");
    let whole = format!("the publication whole publishes {schema}.configured_integrations");
    for expected in [all, &several, &whole] {
        assert!(found.iter().any(|found| found == expected), "{expected}: {found:?}");
    }
    assert!(!found.iter().any(|found| found.contains("other")), "{found:?}");

    // What it says to do, it takes.
    let mut statements = fixes.clone();
    statements.retain(|fix| fix.starts_with("ALTER PUBLICATION"));
    statements.dedup();
    superuser.batch_execute(&statements.join("\n")).await.unwrap();
    assert_eq!(mine().await.0, [all]);
    superuser.batch_execute(r#"DROP PUBLICATION "All of it""#).await.unwrap();
    assert_eq!(mine().await.0, [""; 0]);
}
