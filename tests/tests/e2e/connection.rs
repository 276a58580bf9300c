//! Connecting: the sources of the settings, passwords, and what is told when it does not work.

use crate::{client_log, command_line::assert_fails, helpers::calls::register};
use intcred::{Client, Secret, Settings};
use nix::unistd::User;
use serde_json::json;
use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
};
use tests::{ADMIN, AUDITOR, Canary, Cluster, Database, OUTSIDER, Output, READER, SUPERUSER, intcred, run};
use tokio::net::TcpListener;

/// Runs `intcred list`, with these variables.
async fn list(dsn: Option<&str>, variables: &[(&str, &str)]) -> Output {
    let mut command = intcred();
    command.arg("list").args(dsn.map(|dsn| format!("--dsn={dsn}"))).envs(variables.iter().copied());
    run(&mut command, b"").await
}

#[tokio::test]
async fn the_settings_come_from_where_psql_takes_them() {
    let database = Cluster::shared().database().await;
    let (host, port) = (Cluster::shared().dir().to_str().unwrap(), Cluster::shared().port().to_string());
    let name = database.name();
    let home = tempfile::tempdir().unwrap();
    let services = home.path().join(".pg_service.conf");
    let service = format!("[ours]\nhost={host}\nport={port}\ndbname={name}\nuser={READER}\n");
    fs::write(&services, service).unwrap();
    let (home, services) = (home.path().to_str().unwrap(), services.to_str().unwrap());

    let server = [("PGHOST", host), ("PGPORT", port.as_str()), ("PGDATABASE", name)];
    let reader = [&server[..], &[("PGUSER", READER)]].concat();
    // Who may not list: what a better source says must win.
    let outsider = [&server[..], &[("PGUSER", OUTSIDER)]].concat();
    let uri = format!("postgresql://{READER}@/{name}?host={}&port={port}", host.replace('/', "%2F"));
    let user = format!("user={READER}");
    for (dsn, variables, code) in [
        (None, reader.clone(), 0),
        (None, outsider.clone(), 3),
        (Some(user.as_str()), outsider.clone(), 0),
        (Some(uri.as_str()), outsider.clone(), 0),
        (Some(uri.as_str()), vec![], 0),
        (None, vec![("HOME", home), ("PGSERVICE", "ours")], 0),
        (None, [&outsider[..], &[("HOME", home), ("PGSERVICE", "ours")]].concat(), 0),
        (None, vec![("PGSERVICEFILE", services), ("PGSERVICE", "ours")], 0),
        (Some("service=ours"), vec![("PGSERVICEFILE", services)], 0),
        (Some("service=ours user=mallory"), vec![("HOME", home)], 3),
        (Some("service=theirs"), vec![("HOME", home)], 2),
        (None, vec![("PGSERVICEFILE", "/nonexistent"), ("PGSERVICE", "ours")], 2),
    ] {
        let output = list(dsn, &variables).await;
        assert_eq!(output.code, code, "{dsn:?} {variables:?}: {output:?}");
        assert_eq!(output.stderr.is_empty(), code == 0, "{output:?}");
    }
}

#[tokio::test]
async fn settings_that_make_no_sense_are_status_2_and_show_no_password() {
    let canary = Canary::new();
    for (dsn, message) in [
        (format!("host=a nonsense={canary}"), "unknown keyword \"nonsense\""),
        (format!("password={canary} {canary}"), "a keyword without \"=\""),
        (format!("password='{canary}"), "a quote that is not closed"),
        (format!("postgres://u:{canary}%zz@h/d"), "a \"%\""),
        (format!("postgres://u:{canary}@h:{canary}/d"), "\"port\" must be"),
        (format!("password={canary} sslmode=maybe"), "\"sslmode\" must be"),
        (format!("password={canary} host=a,b port=1,2,3"), "2 hosts and 3 values"),
        (
            format!("password={canary} require_auth=none"),
            "\"require_auth\" is not supported; remove the setting",
        ),
        (
            format!("password={canary} gssencmode=require"),
            "\"gssencmode\" is not supported; remove the setting, or set",
        ),
        (format!("password={canary} replication=database"), "\"replication\" is not supported"),
        (format!("scram_client_key={canary}"), "\"scram_client_key\" is not supported"),
        (format!("oauth_client_secret={canary}"), "\"oauth_client_secret\" is not supported"),
        (format!("postgres://u:{canary}@h/d?sslcertmode=require"), "\"sslcertmode\" is not supported"),
        (format!("sslpassword={canary} ssl_min_protocol_version=9"), "\"ssl_min_protocol_version\" must be"),
    ] {
        let output = list(Some(&dsn), &[]).await;
        assert_fails(&output, 2, message);
        canary.assert_absent(&output);
    }
}

#[tokio::test]
async fn a_server_that_is_not_to_be_reached_is_status_4_and_one_line() {
    let database = Cluster::shared().database().await;
    let bare = Cluster::shared().empty_database().await;
    let socket = database.dsn(READER);
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap().port();
    for (dsn, message) in [
        (format!("host=127.0.0.1 port={}", unused_port().await), "Connection refused"),
        ("host=no-such-host.invalid".to_owned(), "cannot connect to no-such-host.invalid:5432: "),
        ("host=/nonexistent port=5".to_owned(), "cannot connect to /nonexistent/.s.PGSQL.5: No such file"),
        (format!("{socket} port=5433"), "No such file"),
        (format!("{socket} dbname=nowhere"), "database \"nowhere\" does not exist"),
        (format!("{socket} host=127.0.0.1 port={silent} connect_timeout=1"), "no answer within 1 s"),
        (bare.dsn(SUPERUSER), "CREATE EXTENSION integration_credentials"),
        (bare.dsn(READER), "CREATE EXTENSION integration_credentials"),
    ] {
        let output = list(Some(&dsn), &[]).await;
        assert_fails(&output, 4, message);
        assert_eq!(output.stderr.contains("\nhint: "), message.starts_with("CREATE"), "{output:?}");
    }
    // Of several hosts, the first one that answers.
    assert_eq!(list(Some(&socket.replace("host='", "host='/nonexistent,")), &[]).await.code, 0);
}

async fn unused_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// A cluster that asks for a password over TCP, and ADMIN's DSN there.
async fn with_password(password: &Canary) -> (Cluster, Database) {
    let mut cluster = Cluster::builder().tcp().start();
    let rules = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    fs::write(cluster.data_dir().join("pg_hba.conf"), rules).unwrap();
    cluster.restart();
    let database = cluster.database().await;
    let alter = format!("ALTER ROLE {ADMIN} PASSWORD '{password}'");
    database.superuser().await.batch_execute(&alter).await.unwrap();
    (cluster, database)
}

#[tokio::test]
async fn a_password_comes_from_the_dsn_the_environment_or_a_private_file() {
    let (password, wrong) = (Canary::new(), Canary::new());
    let (cluster, database) = with_password(&password).await;
    let dsn = database.tcp_dsn(ADMIN);
    let (right, wrong) = (password.as_str(), wrong.as_str());
    let in_dsn = format!("{dsn} password={right}");
    let homes = tempfile::tempdir().unwrap();
    let home = |name: &str, mode, line: String| {
        let home = homes.path().join(name);
        let file = home.join(".pgpass");
        fs::create_dir(&home).unwrap();
        fs::write(&file, line + "\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        (home.display().to_string(), file.display().to_string())
    };
    let port = cluster.port();
    let (private, file) = home("private", 0o600, format!("127.0.0.1:{port}:*:{ADMIN}:{right}"));
    let (open, _) = home("open", 0o644, format!("*:*:*:*:{right}"));
    let (other, _) =
        home("other", 0o600, format!("db.example:*:*:*:{wrong}\n*:*:*:{READER}:{wrong}\n*:1:*:*:{wrong}"));
    for (dsn, variables, code, message) in [
        (&in_dsn, vec![], 0, ""),
        (&in_dsn, vec![("PGPASSWORD", wrong)], 0, ""),
        (&dsn, vec![("PGPASSWORD", right)], 0, ""),
        (&dsn, vec![("PGPASSWORD", wrong)], 3, "password authentication failed for user \"alice_admin\""),
        (&dsn, vec![("PGPASSWORD", wrong), ("HOME", private.as_str())], 3, "password authentication failed"),
        (&dsn, vec![], 3, "the server asks for a password, and neither"),
        (&dsn, vec![("HOME", private.as_str())], 0, ""),
        (&dsn, vec![("PGPASSFILE", file.as_str())], 0, ""),
        (&dsn, vec![("HOME", other.as_str())], 3, "the server asks for a password, and neither"),
    ] {
        let output = list(Some(dsn), &variables).await;
        password.assert_absent(&output);
        if code == 0 {
            assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{variables:?}");
        } else {
            assert_fails(&output, code, message);
        }
    }
    let output = list(Some(&dsn), &[("HOME", &open)]).await;
    let told: Vec<_> = output.stderr.lines().collect();
    assert!(told.len() == 2 && told[0].ends_with("is not used; run chmod 600"), "{output:?}");
    assert_eq!(output.code, 3);
}

#[tokio::test]
async fn a_trace_log_of_the_library_has_the_statements_and_neither_value_nor_password() {
    let (value, password) = (Canary::new(), Canary::new());
    let (_cluster, database) = with_password(&password).await;
    // Not before: the statement that gave the role its password would be in it.
    client_log::capture();
    let dsn = format!("{} password={password}", database.tcp_dsn(ADMIN));
    let settings = Settings::resolve(Some(&dsn)).unwrap();
    let client = Client::connect(&settings, |_| ()).await.unwrap();
    let secret = Secret::new(value.to_string());
    let refused = client.set("slack", &secret, "me").await.unwrap_err();
    let missing = client.create_group_roles().await.unwrap_err();
    client.set("trustradius", &secret, "me").await.unwrap();
    let settings_of_reader = Settings::resolve(Some(&database.dsn(READER))).unwrap();
    let reader = Client::connect(&settings_of_reader, |_| ()).await.unwrap();
    let got = reader.get("trustradius").await.unwrap();
    assert_eq!(got.expose(), value.as_str());

    let logged = client_log::captured();
    assert!(logged.iter().any(|line| line.contains("CREATE ROLE %I NOLOGIN")), "the statements are logged");
    let shown =
        format!("{settings:?} {refused:?} {refused} {missing:?} {secret:?} {got:?} {}", json!(logged));
    value.assert_absent(&shown);
    password.assert_absent(&shown);
}

#[tokio::test]
async fn a_password_in_a_uri_ends_where_psql_has_it_end() {
    let (cluster, database) = with_password(&Canary::new()).await;
    let superuser = database.superuser().await;
    for password in ["p?x=y", "a:b", "p#&[]", "%3F%40", "100%25"] {
        let decoded = password.replace("%3F", "?").replace("%40", "@").replace("%25", "%");
        superuser.batch_execute(&format!("ALTER ROLE {ADMIN} PASSWORD '{decoded}'")).await.unwrap();
        let uri = format!("postgresql://{ADMIN}:{password}@127.0.0.1:{}/{}", cluster.port(), database.name());
        let theirs = run(cluster.tool("psql").args(["-X", "-c", "SELECT 1", &uri]), b"").await;
        let ours = list(Some(&uri), &[]).await;
        assert_eq!((theirs.code, ours.code), (0, 0), "{password}: {theirs:?} {ours:?}");
    }
    // The first @ ends it, for psql too.
    let uri = format!("postgresql://{ADMIN}:p@x@127.0.0.1/{}", database.name());
    let theirs = run(cluster.tool("psql").args(["-X", "-c", "SELECT 1", &uri]), b"").await;
    assert!(theirs.stderr.contains("\"x@127.0.0.1\""), "{theirs:?}");
    assert_fails(&list(Some(&uri), &[]).await, 4, "cannot connect to x@127.0.0.1:5432: ");
}

#[tokio::test]
async fn a_line_of_the_password_file_that_is_no_text_spoils_no_other() {
    let password = Canary::new();
    let (_cluster, database) = with_password(&password).await;
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("pgpass");
    let lines =
        [b"# K\xf6ln\n*:*:*:other:p\xe4ss\n*:*:*:*:".as_slice(), password.as_str().as_bytes()].concat();
    fs::write(&file, lines).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let variables = [("PGPASSFILE", file.to_str().unwrap())];
    let output = list(Some(&database.tcp_dsn(ADMIN)), &variables).await;
    assert_eq!((output.code, output.stderr.lines().count()), (0, 2), "{output:?}");
    assert!(output.stderr.contains("line 2 of password file"), "{output:?}");
    password.assert_absent(&output);
}

#[tokio::test]
async fn a_variable_that_is_no_text_is_refused_and_not_passed_over() {
    let mut command = intcred();
    command.arg("list").env("PGSSLMODE", std::ffi::OsStr::from_bytes(b"verify-full\xff"));
    assert_fails(&run(&mut command, b"").await, 2, "the environment variable PGSSLMODE is not UTF-8");
}

#[tokio::test]
async fn a_server_that_is_not_of_the_wanted_kind_is_passed_over_as_by_psql() {
    let primary = Cluster::private();
    let database = primary.database().await;
    let read_only = format!("ALTER ROLE {AUDITOR} SET default_transaction_read_only = on");
    database.superuser().await.batch_execute(&read_only).await.unwrap();
    let standby = primary.standby();
    let (there, here) = (primary.dir().display(), standby.dir().display());
    let nowhere = "/nonexistent";
    for (hosts, wanted, expected) in [
        (format!("{there},{here}"), "any", Some("primary")),
        (format!("{there},{here}"), "standby", Some("standby")),
        (format!("{there},{here}"), "prefer-standby", Some("standby")),
        (format!("{there},{nowhere}"), "prefer-standby", Some("primary")),
        (format!("{there},{here}"), "read-only", Some("standby")),
        (format!("{here},{there}"), "primary", Some("primary")),
        (format!("{here},{there}"), "read-write", Some("primary")),
        (format!("{here},{nowhere}"), "primary", None),
        (format!("{there},{nowhere}"), "standby", None),
        (here.to_string(), "read-write", None),
    ] {
        let dsn = format!("{} host={hosts} target_session_attrs={wanted}", database.dsn(ADMIN));
        let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END";
        let theirs = run(primary.tool("psql").env_remove("PGHOST").args(["-XAtc", sql, &dsn]), b"").await;
        assert_eq!(Some(theirs.stdout.trim()).filter(|role| !role.is_empty()), expected, "{dsn}: {theirs:?}");
        // A standby refuses to set; so which of the two it was shows.
        let ours = run(intcred().args(["--dsn", &dsn, "set", "slack"]), b"nothing that slack has").await;
        let found = if ours.stderr.contains("in a read-only transaction") {
            Some("standby")
        } else {
            ours.stderr.contains("the value ").then_some("primary")
        };
        assert_eq!(found, expected, "{dsn}: {ours:?}");
        assert_eq!(ours.code == 4, expected.is_none(), "{ours:?}");
    }
    // A session that is read-only by default is not what a writer wants, and is what a reader does.
    for (wanted, code) in [("read-write", 4), ("read-only", 0), ("primary", 0)] {
        let dsn = format!("{} target_session_attrs={wanted}", database.dsn(AUDITOR));
        assert_eq!(list(Some(&dsn), &[]).await.code, code, "{wanted}");
    }
}

#[tokio::test]
async fn hosts_are_taken_in_any_order_where_the_load_is_to_be_spread() {
    let (one, other) = (Cluster::private(), Cluster::private());
    let databases = [one.database().await, other.database().await];
    assert_eq!(databases[0].name(), databases[1].name());
    for (number, database) in databases.iter().enumerate() {
        let admin = database.connect(ADMIN).await;
        register(&admin, &format!("of-{number}"), json!({})).await.unwrap();
    }
    let hosts = format!("{},{}", one.dir().display(), other.dir().display());
    for (how, both) in [("disable", false), ("random", true)] {
        let dsn = format!("{} host={hosts} load_balance_hosts={how}", databases[0].dsn(READER));
        let mut seen = [false; 2];
        // That one of two is never chosen in so many turns happens once in 2^39 times.
        for _ in 0..40 {
            let listed = list(Some(&dsn), &[]).await.success();
            seen = [seen[0] || listed.contains("of-0"), seen[1] || listed.contains("of-1")];
        }
        assert_eq!(seen, [true, both], "{how}");
    }
}

#[tokio::test]
async fn a_socket_may_be_in_no_directory_and_its_server_may_have_to_be_someones() {
    let name = format!("@intcred-{}", std::process::id());
    let cluster = Cluster::builder().start();
    let database = cluster.database().await;
    let sockets = format!("{}, {name}", cluster.dir().display());
    let alter = format!("ALTER SYSTEM SET unix_socket_directories = '{}'", sockets.replace(", ", "','"));
    database.superuser().await.batch_execute(&alter).await.unwrap();
    let mut cluster = cluster;
    cluster.restart();
    let owner = User::from_uid(fs::metadata(cluster.data_dir()).unwrap().uid().into()).unwrap().unwrap().name;
    let dsn = database.dsn(READER);
    for (options, code) in [
        (format!("host={name}"), 0),
        (format!("host={name} requirepeer={owner}"), 0),
        (format!("host={name} requirepeer=somebody"), 4),
        (format!("requirepeer={owner}"), 0),
        ("requirepeer=''".to_owned(), 0),
        ("requirepeer=somebody".to_owned(), 4),
    ] {
        let dsn = format!("{dsn} {options}");
        let mut psql = cluster.tool("psql");
        let theirs = run(psql.env_remove("PGHOST").args(["-Xc", "SELECT 1", &dsn]), b"").await;
        let ours = list(Some(&dsn), &[]).await;
        assert_eq!((theirs.code != 0, ours.code), (code != 0, code), "{options}: {theirs:?} {ours:?}");
        assert_eq!(ours.stderr.contains("requirepeer is \"somebody\""), code != 0, "{ours:?}");
    }
}
