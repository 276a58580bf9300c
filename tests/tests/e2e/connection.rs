//! Connecting: the sources of the settings, passwords, and what is told when it does not work.

use crate::{client_log, command_line::assert_fails};
use intcred::{Client, Secret, Settings};
use serde_json::json;
use std::{fs, os::unix::fs::PermissionsExt};
use tests::{ADMIN, Canary, Cluster, Database, OUTSIDER, Output, READER, SUPERUSER, intcred, run};
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
            "\"require_auth\" is not supported here; leave it out",
        ),
        (
            format!("password={canary} gssencmode=require"),
            "\"gssencmode\" is not supported here; leave it out or at",
        ),
        (format!("password={canary} replication=database"), "\"replication\" is not supported here"),
        (format!("scram_client_key={canary}"), "\"scram_client_key\" is not supported here"),
        (format!("oauth_client_secret={canary}"), "\"oauth_client_secret\" is not supported here"),
        (format!("postgres://u:{canary}@h/d?sslcertmode=require"), "\"sslcertmode\" is not supported here"),
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
        (&dsn, vec![], 3, "it asks for a password, and there is none"),
        (&dsn, vec![("HOME", private.as_str())], 0, ""),
        (&dsn, vec![("PGPASSFILE", file.as_str())], 0, ""),
        (&dsn, vec![("HOME", other.as_str())], 3, "it asks for a password, and there is none"),
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
    assert!(told.len() == 2 && told[0].ends_with("is not used; chmod 600 it"), "{output:?}");
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
