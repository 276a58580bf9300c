//! Connecting: the sources of the settings, passwords, TLS, and what is told when it does not work.

use crate::{client_log, command_line::assert_fails};
use intcred::{Client, Secret, Settings};
use serde_json::json;
use std::{fs, os::unix::fs::PermissionsExt, path::Path};
use tests::{
    ADMIN, Canary, Cluster, Database, OUTSIDER, Output, READER, SUPERUSER, installation::Installation,
    intcred, run,
};
use tokio::{net::TcpListener, process::Command};

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
        (format!("password={canary} require_auth=none"), "\"require_auth\" is not supported"),
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

/// A certificate authority `name`.crt, and a certificate `name-server.crt` that it signed, for the host localhost alone.
async fn authority(dir: &Path, name: &str) {
    let openssl = async |arguments: &str| {
        let mut command = Command::new("openssl");
        let key = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc";
        command.args(key.split(' ')).args(arguments.split(' ')).current_dir(dir);
        assert_eq!(run(&mut command, b"").await.code, 0);
    };
    openssl(&format!("-subj /CN={name} -keyout {name}.key -out {name}.crt")).await;
    openssl(&format!(
        "-CA {name}.crt -CAkey {name}.key -subj /CN=127.0.0.1 -addext subjectAltName=DNS:localhost \
         -addext basicConstraints=critical,CA:FALSE -keyout {name}-server.key -out {name}-server.crt"
    ))
    .await;
}

#[tokio::test]
async fn sslmode_means_what_libpq_means() {
    let certificates = tempfile::tempdir().unwrap();
    let dir = certificates.path();
    authority(dir, "ours").await;
    authority(dir, "theirs").await;
    fs::create_dir_all(dir.join("home/.postgresql")).unwrap();
    fs::copy(dir.join("ours.crt"), dir.join("home/.postgresql/root.crt")).unwrap();
    fs::write(dir.join("empty.crt"), "").unwrap();
    let path = |name: &str| dir.join(name).display().to_string();

    let mut cluster = Cluster::builder().tcp().setting("log_connections", "on").start();
    let database = cluster.database().await;
    let attempt = async |cluster: &Cluster, row: u32, options: &str, home: &str| {
        // The dot ends it: no other is the start of it.
        let row = format!("row{row}.");
        let dsn = format!("{} hostaddr=127.0.0.1 application_name={row} {options}", database.tcp_dsn(READER));
        let output = list(Some(&dsn), &[("HOME", home)]).await;
        // Of what Postgres says of itself: only sessions that were let in.
        let log = cluster.log();
        let session = format!("application_name={row}");
        let line = log.lines().find(|line| line.contains("connection authorized") && line.contains(&session));
        (output, line.map(|line| line.contains(" SSL enabled (protocol=TLSv1.3")))
    };
    for (row, (mode, expected)) in (0..).zip([
        ("disable", Ok(false)),
        ("prefer", Ok(false)),
        ("allow", Ok(false)),
        ("require", Err("server does not support TLS")),
    ]) {
        let options = format!("sslmode={mode}");
        assert_mode(&options, &attempt(&cluster, row, &options, "/nonexistent").await, expected);
    }

    let installation = Installation::find();
    for file in ["server.crt", "server.key"] {
        let content = fs::read(dir.join(format!("ours-{file}"))).unwrap();
        installation.write_private(&cluster.data_dir().join(file), &content).unwrap();
    }
    database.superuser().await.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    cluster.restart();

    let (ours, theirs, empty) = (path("ours.crt"), path("theirs.crt"), path("empty.crt"));
    let (nowhere, home) = ("/nonexistent".to_owned(), path("home"));
    for (row, (mode, host, roots, home, expected)) in (100..).zip([
        ("disable", "localhost", None, &nowhere, Ok(false)),
        ("allow", "localhost", None, &nowhere, Ok(false)),
        ("prefer", "localhost", None, &nowhere, Ok(true)),
        ("require", "127.0.0.1", None, &nowhere, Ok(true)),
        ("require", "127.0.0.1", Some(&ours), &nowhere, Ok(true)),
        ("require", "localhost", Some(&theirs), &nowhere, Err("no trusted root has signed it")),
        ("verify-ca", "127.0.0.1", Some(&ours), &nowhere, Ok(true)),
        ("verify-ca", "127.0.0.1", None, &home, Ok(true)),
        ("verify-ca", "localhost", Some(&theirs), &nowhere, Err("no trusted root has signed it")),
        ("verify-ca", "localhost", None, &nowhere, Err("there is no ~/.postgresql/root.crt")),
        ("verify-full", "localhost", Some(&ours), &nowhere, Ok(true)),
        ("verify-full", "localhost", None, &home, Ok(true)),
        // Not the address that the common name has, either.
        ("verify-full", "127.0.0.1", Some(&ours), &nowhere, Err("it is not for this host name")),
        ("verify-full", "localhost.", Some(&theirs), &nowhere, Err("no trusted root has signed it")),
        ("verify-full", "db.example", Some(&ours), &nowhere, Err("it is not for this host name")),
        ("verify-full", "localhost", Some(&nowhere), &home, Err("\"/nonexistent\"")),
        ("verify-full", "localhost", Some(&empty), &home, Err("no certificate in it")),
    ]) {
        let roots = roots.map(|roots| format!(" sslrootcert={roots}")).unwrap_or_default();
        let options = format!("sslmode={mode} host={host}{roots}");
        assert_mode(&options, &attempt(&cluster, row, &options, home).await, expected);
    }
}

/// Panics unless the session was encrypted or not as expected, or refused with this reason before it was one.
#[track_caller]
fn assert_mode(options: &str, (output, encrypted): &(Output, Option<bool>), expected: Result<bool, &str>) {
    match expected {
        Ok(expected) => assert_eq!((output.code, *encrypted), (0, Some(expected)), "{options}: {output:?}"),
        Err(message) => {
            assert_fails(output, 4, message);
            assert_eq!(*encrypted, None, "{options}");
        }
    }
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
