//! TLS, held beside psql: each certificate, each `sslmode`, with and without a root.

use crate::command_line::{PATIENCE, assert_fails};
use std::{
    fmt::Write,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};
use tests::{
    ADMIN, AUDITOR, Canary, Cluster, Database, Output, READER, installation::Installation, intcred, run,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::Command,
    time::timeout,
};

/// What Postgres' manual has people type to make certificates, and what becomes of a certificate that is no good.
struct Certificates {
    dir: PathBuf,
    installation: Installation,
}

impl Certificates {
    async fn make(cluster: &Cluster) -> Self {
        let dir = cluster.dir().join("certificates");
        fs::create_dir(&dir).unwrap();
        let certificates = Self { dir, installation: Installation::find() };
        certificates.authority("root").await;
        certificates.authority("other").await;
        // As in "Creating Certificates": one that signs itself.
        let own = "req -new -x509 -days 365 -nodes -text -subj /CN=localhost -keyout self-signed.key -out self-signed.crt";
        certificates.openssl(own).await;
        // And one that an authority signs, of version 1 before OpenSSL 3.2.
        certificates.signed("version-1", "root", "/CN=localhost", "", "365").await;
        certificates.signed("cn", "root", "/CN=localhost", "basicConstraints=CA:FALSE", "365").await;
        certificates.signed("san", "root", "/CN=ignored", "subjectAltName=DNS:localhost", "365").await;
        certificates
            .signed("wrong-name", "root", "/CN=localhost", "subjectAltName=DNS:other.test", "365")
            .await;
        certificates.signed("wrong-cn", "root", "/CN=other.test", "", "365").await;
        certificates.signed("address-in-cn", "root", "/CN=127.0.0.1", "", "365").await;
        certificates
            .signed("address-in-san", "root", "/CN=localhost", "subjectAltName=IP:127.0.0.1,DNS:x", "365")
            .await;
        certificates
            .signed("other-address-in-san", "root", "/CN=localhost", "subjectAltName=IP:127.0.0.2", "365")
            .await;
        certificates.signed("any-in-domain", "root", "/CN=*.domain.test", "", "365").await;
        certificates.signed("expired", "root", "/CN=localhost", "subjectAltName=DNS:localhost", "-1").await;
        certificates.signed("other-authority", "other", "/CN=localhost", "", "365").await;
        certificates.signed("reader", "root", &format!("/CN={READER}"), "", "365").await;
        certificates
            .openssl("pkey -in reader.key -aes256 -passout pass:opensesame -out reader-locked.key")
            .await;
        certificates.openssl("pkey -in reader.key -outform DER -out reader-der.key").await;
        certificates.lists().await;
        certificates.give();
        certificates
    }

    async fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(&self.dir);
        let output = run(&mut command, b"").await;
        assert_eq!(output.code, 0, "{arguments}: {output:?}");
    }

    async fn authority(&self, name: &str) {
        let request =
            format!("req -new -nodes -text -subj /CN={name}.test -keyout {name}.key -out {name}.csr");
        self.openssl(&request).await;
        let sign = "-days 3650 -extfile /etc/ssl/openssl.cnf -extensions v3_ca";
        self.openssl(&format!("x509 -req -in {name}.csr -text {sign} -signkey {name}.key -out {name}.crt"))
            .await;
    }

    async fn signed(&self, name: &str, authority: &str, subject: &str, extension: &str, days: &str) {
        self.openssl(&format!("req -new -nodes -text -subj {subject} -keyout {name}.key -out {name}.csr"))
            .await;
        let mut sign = format!(
            "x509 -req -in {name}.csr -text -days {days} -CA {authority}.crt -CAkey {authority}.key -CAcreateserial -out {name}.crt"
        );
        if !extension.is_empty() {
            fs::write(self.dir.join("extension"), extension).unwrap();
            sign += " -extfile extension";
        }
        self.openssl(&sign).await;
    }

    /// Lists of revoked certificates: one without any, and one that has `cn.crt`, which is in a directory, too.
    async fn lists(&self) {
        let conf = "[ca]\ndefault_ca = it\n[it]\ndatabase = index\ncrlnumber = number\ndefault_md = sha256\n";
        fs::write(self.dir.join("ca.conf"), conf).unwrap();
        fs::write(self.dir.join("index"), "").unwrap();
        fs::write(self.dir.join("number"), "01").unwrap();
        let list = "ca -config ca.conf -keyfile root.key -cert root.crt -gencrl -crldays 30 -out";
        self.openssl(&format!("{list} none.crl")).await;
        self.openssl("ca -config ca.conf -keyfile root.key -cert root.crt -revoke cn.crt").await;
        self.openssl(&format!("{list} revoked.crl")).await;
        fs::create_dir(self.dir.join("lists")).unwrap();
        fs::copy(self.dir.join("revoked.crl"), self.dir.join("lists/revoked.pem")).unwrap();
        self.openssl("rehash lists").await;
    }

    /// psql runs as the server's user.
    fn give(&self) {
        for dir in [self.dir.clone(), self.dir.join("lists")] {
            for entry in fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
                    self.installation.give(&path).unwrap();
                }
            }
            self.installation.give(&dir).unwrap();
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Has the server show this certificate.
    fn install(&self, cluster: &mut Cluster, name: &str) {
        for (from, to) in [("crt", "server.crt"), ("key", "server.key")] {
            let content = fs::read(self.dir.join(format!("{name}.{from}"))).unwrap();
            let path = cluster.data_dir().join(to);
            if path.exists() {
                fs::remove_file(&path).unwrap();
            }
            self.installation.write_private(&path, &content).unwrap();
        }
        cluster.restart();
    }
}

/// A cluster that takes both kinds of connections from READER, and none but encrypted ones from AUDITOR.
async fn cluster() -> (Cluster, Database, Certificates) {
    let mut cluster = Cluster::builder().tcp().setting("log_connections", "on").start();
    let database = cluster.database().await;
    let certificates = Certificates::make(&cluster).await;
    let rules = format!(
        "local all all trust\nhostssl all {AUDITOR} 127.0.0.1/32 trust\nhost all {READER} 127.0.0.1/32 trust\n"
    );
    fs::write(cluster.data_dir().join("pg_hba.conf"), rules).unwrap();
    database.superuser().await.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    certificates.install(&mut cluster, "self-signed");
    (cluster, database, certificates)
}

/// How far a client came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Refused,
    Clear,
    Encrypted,
}

impl Came {
    fn word(self) -> &'static str {
        match self {
            Self::Refused => "-",
            Self::Clear => "clear",
            Self::Encrypted => "TLS",
        }
    }
}

/// Runs a client and looks into the server's log whether it was let in, and how.
struct Clients<'a> {
    cluster: &'a Cluster,
    database: &'a Database,
    home: String,
}

impl<'a> Clients<'a> {
    fn new(cluster: &'a Cluster, database: &'a Database) -> Self {
        Self { cluster, database, home: "/nonexistent".into() }
    }

    async fn intcred(&self, role: &str, options: &str) -> (Came, Output) {
        let mut command = intcred();
        command.arg("list").env("HOME", &self.home);
        self.run(command, "--dsn", role, options).await
    }

    async fn psql(&self, role: &str, options: &str) -> (Came, Output) {
        let mut command = self.cluster.tool("psql");
        command.args(["-X", "-c", "SELECT 1"]).env("HOME", &self.home).env_remove("PGHOST");
        self.run(command, "--dbname", role, options).await
    }

    async fn run(&self, mut command: Command, flag: &str, role: &str, options: &str) -> (Came, Output) {
        static ATTEMPTS: AtomicU32 = AtomicU32::new(0);
        // The dot ends it: no other is the start of it.
        let name = format!("attempt{}.", ATTEMPTS.fetch_add(1, Ordering::Relaxed));
        let dsn = format!(
            "{} host=localhost hostaddr=127.0.0.1 application_name={name} {options}",
            self.database.tcp_dsn(role)
        );
        let output = run(command.args([flag, &dsn]), b"").await;
        if output.code != 0 {
            // The server may have let it in, and then it found fault with the server.
            return (Came::Refused, output);
        }
        let log = self.cluster.log();
        let session = format!("application_name={name}");
        let line = log.lines().find(|line| line.contains("connection authorized") && line.contains(&session));
        let is_encrypted = line.expect("the server logs it").contains(" SSL enabled (protocol=TLSv1.");
        (if is_encrypted { Came::Encrypted } else { Came::Clear }, output)
    }

    /// Both came as far as that, and if they came nowhere, we say this.
    async fn both(&self, role: &str, options: &str, expected: Result<Came, &str>) {
        let (theirs, _) = self.psql(role, options).await;
        let (ours, output) = self.intcred(role, options).await;
        match expected {
            Ok(came) => assert_eq!((theirs, ours), (came, came), "{options}: {output:?}"),
            Err(message) => {
                assert_eq!((theirs, ours), (Came::Refused, Came::Refused), "{options}: {output:?}");
                assert!(output.stderr.contains(message), "{options}: {output:?}");
            }
        }
    }
}

const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
const SHOWN: [(&str, &str); 9] = [
    ("self-signed", "self-signed, CN"),
    ("version-1", "signed, version 1, CN"),
    ("cn", "signed, CN"),
    ("san", "signed, SAN"),
    ("wrong-cn", "signed, version 1, CN of another host"),
    ("address-in-cn", "signed, version 1, CN is the address"),
    ("wrong-name", "signed, CN, SAN of another host"),
    ("expired", "signed, SAN, expired"),
    ("other-authority", "signed by another authority"),
];

#[tokio::test]
async fn each_certificate_in_each_sslmode_is_taken_as_psql_takes_it() {
    let (mut cluster, database, certificates) = cluster().await;
    let mut table = format!("| certificate | root | server takes | {} |\n", MODES.join(" | "));
    writeln!(table, "| --- | --- | --- |{}", " --- |".repeat(MODES.len())).unwrap();
    // Where we are stricter: a certificate that was refused is no reason to go on in the clear.
    let (mut stricter, mut unexpected) = (Vec::new(), Vec::new());
    for (certificate, description) in SHOWN {
        certificates.install(&mut cluster, certificate);
        let clients = Clients::new(&cluster, &database);
        let root = if certificate == "self-signed" { "self-signed.crt" } else { "root.crt" };
        for root in [None, Some(root)] {
            for (role, takes) in [(READER, "both"), (AUDITOR, "TLS only")] {
                write!(table, "| {description} | {} | {takes} |", root.map_or("none", |_| "given")).unwrap();
                for mode in MODES {
                    let mut options = format!("sslmode={mode}");
                    if let Some(root) = root {
                        write!(options, " sslrootcert={}", certificates.path(root)).unwrap();
                    }
                    let theirs = clients.psql(role, &options).await.0;
                    let (ours, output) = clients.intcred(role, &options).await;
                    let cell = (certificate, root.is_some(), mode);
                    if theirs == ours {
                        write!(table, " {} |", ours.word()).unwrap();
                        continue;
                    }
                    write!(table, " {}, psql {} |", ours.word(), theirs.word()).unwrap();
                    let is_refusal = output.stderr.contains("the server's certificate is refused: ");
                    if (theirs, ours, is_refusal) == (Came::Clear, Came::Refused, true) {
                        stricter.push(cell);
                    } else {
                        unexpected.push((cell, role, theirs, output));
                    }
                }
                table += "\n";
            }
        }
    }
    println!("{table}");
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("tls-beside-psql.md"), &table).unwrap();
    assert!(unexpected.is_empty(), "{unexpected:#?}\n{table}");
    assert_eq!(stricter, [("expired", true, "prefer"), ("other-authority", true, "prefer")], "{table}");
}

#[tokio::test]
async fn an_address_is_looked_for_where_psql_looks_for_it() {
    let (mut cluster, database, certificates) = cluster().await;
    let not_for = Err("it is for another host name");
    for (certificate, by_name, by_address) in [
        ("address-in-cn", not_for, Ok(Came::Encrypted)),
        ("address-in-san", not_for, Ok(Came::Encrypted)),
        ("other-address-in-san", Ok(Came::Encrypted), not_for),
        ("any-in-domain", not_for, not_for),
    ] {
        certificates.install(&mut cluster, certificate);
        let clients = Clients::new(&cluster, &database);
        let options = format!("sslmode=verify-full sslrootcert={}", certificates.path("root.crt"));
        clients.both(READER, &options, by_name).await;
        clients.both(READER, &format!("{options} host=127.0.0.1"), by_address).await;
        if certificate == "any-in-domain" {
            clients.both(READER, &format!("{options} host=DB.domain.test"), Ok(Came::Encrypted)).await;
            clients.both(READER, &format!("{options} host=a.db.domain.test"), not_for).await;
        }
    }
}

#[tokio::test]
async fn a_server_without_tls_is_one_that_declines_it() {
    let cluster = Cluster::builder().tcp().setting("log_connections", "on").start();
    let database = cluster.database().await;
    let clients = Clients::new(&cluster, &database);
    for mode in ["disable", "allow", "prefer"] {
        clients.both(READER, &format!("sslmode={mode}"), Ok(Came::Clear)).await;
    }
    for mode in ["sslmode=require", "requiressl=1"] {
        clients.both(READER, mode, Err("server does not support TLS")).await;
    }
}

#[tokio::test]
async fn a_server_whose_rules_have_no_line_for_tls_declines_it_for_a_role() {
    let (mut cluster, database, _certificates) = cluster().await;
    let rules = format!("local all all trust\nhostnossl all {READER} 127.0.0.1/32 trust\n");
    fs::write(cluster.data_dir().join("pg_hba.conf"), rules).unwrap();
    cluster.restart();
    let clients = Clients::new(&cluster, &database);
    for mode in ["disable", "allow", "prefer"] {
        clients.both(READER, &format!("sslmode={mode}"), Ok(Came::Clear)).await;
    }
    clients.both(READER, "sslmode=require", Err("no pg_hba.conf entry")).await;
}

#[tokio::test]
async fn a_root_comes_from_the_settings_or_the_home_directory_and_has_to_be_one() {
    let (mut cluster, database, certificates) = cluster().await;
    certificates.install(&mut cluster, "version-1");
    let mut clients = Clients::new(&cluster, &database);
    let given = |mode: &str, root: &str| format!("sslmode={mode} sslrootcert={}", certificates.path(root));
    fs::write(certificates.dir.join("empty.crt"), "").unwrap();
    fs::write(certificates.dir.join("nonsense.crt"), "hello").unwrap();
    certificates.give();
    for (mode, root, message) in [
        ("verify-ca", "missing.crt", "missing.crt\": No such file"),
        ("verify-full", "empty.crt", "empty.crt\": "),
        ("verify-full", "nonsense.crt", "nonsense.crt\": "),
        ("verify-full", "other.crt", "no trusted root has signed it"),
        ("require", "other.crt", "no trusted root has signed it"),
    ] {
        clients.both(READER, &given(mode, root), Err(message)).await;
    }
    clients.both(READER, "sslmode=verify-full", Err("there is no ~/.postgresql/root.crt")).await;
    // On purpose: what was named has to be there.
    let missing = given("require", "missing.crt");
    assert_eq!(clients.psql(READER, &missing).await.0, Came::Encrypted);
    assert_fails(&clients.intcred(READER, &missing).await.1, 4, "missing.crt\": No such file");

    let home = certificates.dir.join("home");
    fs::create_dir_all(home.join(".postgresql")).unwrap();
    let default = home.join(".postgresql/root.crt");
    // psql takes the home directory from the user database, and so has to be told.
    for (root, expected) in
        [("root.crt", Ok(Came::Encrypted)), ("other.crt", Err("no trusted root has signed it"))]
    {
        fs::copy(certificates.dir.join(root), &default).unwrap();
        clients.home = home.display().to_string();
        for mode in ["require", "verify-ca", "verify-full"] {
            let (ours, output) = clients.intcred(READER, &format!("sslmode={mode}")).await;
            match expected {
                Ok(came) => assert_eq!(ours, came, "{output:?}"),
                Err(message) => assert_fails(&output, 4, message),
            }
        }
    }
}

#[tokio::test]
async fn a_client_certificate_by_the_manual_is_a_login_as_with_psql() {
    let (mut cluster, database, certificates) = cluster().await;
    let rules = format!("local all all trust\nhostssl all {READER} 127.0.0.1/32 cert\n");
    fs::write(cluster.data_dir().join("pg_hba.conf"), rules).unwrap();
    let alter = format!("ALTER SYSTEM SET ssl_ca_file = '{}'", certificates.path("root.crt"));
    database.superuser().await.batch_execute(&alter).await.unwrap();
    certificates.install(&mut cluster, "version-1");
    let open = certificates.path("reader-open.key");
    fs::copy(certificates.path("reader.key"), &open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
    certificates.installation.give(Path::new(&open)).unwrap();

    let clients = Clients::new(&cluster, &database);
    let with = |certificate: &str, key: &str, more: &str| {
        let (certificate, key) = (certificates.path(certificate), certificates.path(key));
        format!(
            "sslmode=verify-full sslrootcert={} sslcert={certificate} sslkey={key} {more}",
            certificates.path("root.crt")
        )
    };
    for (options, expected) in [
        (with("reader.crt", "reader.key", ""), Ok(Came::Encrypted)),
        (with("reader.crt", "reader.key", "sslcertmode="), Ok(Came::Encrypted)),
        (with("reader.crt", "reader-der.key", ""), Ok(Came::Encrypted)),
        (with("reader.crt", "reader-locked.key", "sslpassword=opensesame"), Ok(Came::Encrypted)),
        (with("reader.crt", "reader-locked.key", ""), Err("the key is encrypted; set sslpassword")),
        (
            with("reader.crt", "reader-locked.key", "sslpassword=wrong"),
            Err("sslpassword does not decrypt the key"),
        ),
        (with("reader.crt", "reader-open.key", ""), Err("run chmod 600")),
        (with("reader.crt", "root.key", ""), Err("the file is not the private key of the certificate")),
        (with("reader.crt", "reader.crt", ""), Err("reader.crt\": ")),
        (with("reader.crt", "missing.key", ""), Err("missing.key\": No such file")),
        (with("version-1.crt", "version-1.key", ""), Err("certificate authentication failed for user")),
        // Why not is in an alert, which gets lost if the server is gone before it is read.
        (with("other-authority.crt", "other-authority.key", ""), Err("cannot connect to localhost")),
        (
            format!("sslmode=require sslcert={}", certificates.path("missing.crt")),
            Err("missing.crt\": No such file"),
        ),
        ("sslmode=require".to_owned(), Err("connection requires a valid client certificate")),
    ] {
        // Not of libpq 15.
        let known_to_psql = options.replace("sslcertmode=", "");
        let theirs = clients.psql(READER, &known_to_psql).await.0;
        let (ours, output) = clients.intcred(READER, &options).await;
        assert_eq!(theirs, ours, "{options}: {output:?}");
        match expected {
            Ok(came) => assert_eq!(ours, came, "{options}"),
            Err(message) => assert!(output.stderr.contains(message), "{options}: {output:?}"),
        }
    }
    let withheld = with("reader.crt", "reader.key", "sslcertmode=disable");
    assert_fails(&clients.intcred(READER, &withheld).await.1, 3, "valid client certificate");
}

#[tokio::test]
async fn a_certificate_that_was_revoked_is_refused() {
    let (mut cluster, database, certificates) = cluster().await;
    let root = format!("sslmode=verify-full sslrootcert={}", certificates.path("root.crt"));
    let with = |keyword: &str, name: &str| format!("{root} {keyword}={}", certificates.path(name));
    for (certificate, expected) in [
        ("san", [Ok(Came::Encrypted), Ok(Came::Encrypted), Ok(Came::Encrypted)]),
        ("cn", [Ok(Came::Encrypted), Err("it is revoked"), Err("it is revoked")]),
    ] {
        certificates.install(&mut cluster, certificate);
        let clients = Clients::new(&cluster, &database);
        clients.both(READER, &root, Ok(Came::Encrypted)).await;
        let options = [with("sslcrl", "none.crl"), with("sslcrl", "revoked.crl"), with("sslcrldir", "lists")];
        for (options, expected) in options.iter().zip(expected) {
            clients.both(READER, options, expected).await;
        }
    }
    // Each certificate needs a list of who signed it, and the root of the other authority has none.
    let mut clients = Clients::new(&cluster, &database);
    // On purpose: a list that was named is used, or it is an error.
    for (options, message) in [
        (with("sslcrl", "missing.crl"), "missing.crl\": No such file"),
        (with("sslcrldir", "missing"), "missing\": No such file"),
        (with("sslcrl", "cn.crt"), "cn.crt\": "),
        (
            format!("sslmode=require sslcrl={}", certificates.path("revoked.crl")),
            "revoked.crl\": a revocation list needs trusted roots; set sslrootcert too",
        ),
    ] {
        assert_fails(&clients.intcred(READER, &options).await.1, 4, message);
    }
    let home = certificates.dir.join("home");
    fs::create_dir_all(home.join(".postgresql")).unwrap();
    for file in ["root.crt", "revoked.crl"] {
        let to = file.replace("revoked", "root");
        fs::copy(certificates.dir.join(file), home.join(".postgresql").join(to)).unwrap();
    }
    clients.home = home.display().to_string();
    assert_fails(&clients.intcred(READER, "sslmode=verify-ca").await.1, 4, "it is revoked");
}

#[tokio::test]
async fn a_version_of_the_protocol_that_was_ruled_out_is_not_spoken() {
    let (cluster, database, _certificates) = cluster().await;
    let superuser = database.superuser().await;
    let clients = Clients::new(&cluster, &database);
    let between = |oldest: &str, newest: &str| {
        format!("sslmode=require ssl_min_protocol_version='{oldest}' ssl_max_protocol_version='{newest}'")
    };
    clients.both(READER, &between("TLSv1.3", ""), Ok(Came::Encrypted)).await;
    clients.both(READER, &between("TLSv1.2", "tlsv1.2"), Ok(Came::Encrypted)).await;
    superuser.batch_execute("ALTER SYSTEM SET ssl_max_protocol_version = 'TLSv1.2'").await.unwrap();
    cluster.reload();
    let (options, message) = (between("TLSv1.3", ""), "protocol version");
    // The postmaster takes up the reload a moment later.
    while clients.psql(READER, &options).await.0 != Came::Refused {}
    clients.both(READER, &options, Err(message)).await;
    clients.both(READER, &between("", ""), Ok(Came::Encrypted)).await;
    assert_fails(
        &clients.intcred(READER, &between("TLSv1.3", "TLSv1.2")).await.1,
        2,
        "\"ssl_max_protocol_version\"",
    );
}

#[tokio::test]
async fn channel_binding_that_is_required_is_had_or_the_login_fails() {
    let (mut cluster, database, certificates) = cluster().await;
    let rules = format!(
        "local all all trust\nhost all {ADMIN} 127.0.0.1/32 scram-sha-256\nhost all {READER} 127.0.0.1/32 trust\n\
         host all {AUDITOR} 127.0.0.1/32 password\n"
    );
    fs::write(cluster.data_dir().join("pg_hba.conf"), rules).unwrap();
    let password = Canary::new();
    let superuser = database.superuser().await;
    let alter =
        format!("ALTER ROLE {ADMIN} PASSWORD '{password}'; ALTER ROLE {AUDITOR} PASSWORD '{password}'");
    superuser.batch_execute(&alter).await.unwrap();
    drop(superuser);
    for certificate in ["version-1", "san"] {
        certificates.install(&mut cluster, certificate);
        let clients = Clients::new(&cluster, &database);
        for (role, mode, expected) in [
            (ADMIN, "require", Ok(Came::Encrypted)),
            (ADMIN, "prefer", Ok(Came::Encrypted)),
            (ADMIN, "disable", Err("channel binding")),
            (READER, "require", Err("channel binding")),
            (AUDITOR, "require", Err("channel binding")),
        ] {
            let options = format!("channel_binding=require sslmode={mode} password={password}");
            clients.both(role, &options, expected).await;
        }
    }
}

/// The first that a client says to a server which does not answer.
async fn first_words(options: &str) -> Vec<u8> {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let dsn =
        format!("host=localhost hostaddr=127.0.0.1 port={port} user=u dbname=d connect_timeout=20 {options}");
    let mut client = intcred().args(["--dsn", &dsn, "list"]).kill_on_drop(true).spawn().unwrap();
    let accepted = timeout(PATIENCE, silent.accept()).await.expect("the client connects");
    let (mut stream, _) = accepted.unwrap();
    let mut words = vec![0; 2000];
    let mut length = stream.read(&mut words).await.unwrap();
    if words[..length] == [0, 0, 0, 8, 4, 210, 22, 47] {
        stream.write_all(b"S").await.unwrap();
        length = stream.read(&mut words).await.unwrap();
    }
    client.kill().await.unwrap();
    words.truncate(length);
    words
}

#[tokio::test]
async fn the_server_is_told_its_name_unless_it_is_not_to_be_and_is_asked_for_tls_unless_that_is_sure() {
    let has = |words: &[u8], text: &[u8]| words.windows(text.len()).any(|window| window == text);
    let words = first_words("sslmode=require").await;
    assert!(words[0] == 22 && has(&words, b"localhost") && !has(&words, b"postgresql"));
    let words = first_words("sslmode=require sslsni=0").await;
    assert!(words[0] == 22 && !has(&words, b"localhost"));
    let words = first_words("sslmode=require sslnegotiation=direct").await;
    assert!(words[0] == 22 && has(&words, b"postgresql"));
}
