//! The snippets of the documents are run as they stand there. (`sealed` runs the recipe for sealing, and cargo the examples
//! of the library.)

use crate::doctor::is_well;
use crate::helpers::calls::{ANY, register, set};
use crate::helpers::fixture::until;
use serde_json::json;
use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio};
use tests::{
    ADMIN, Cluster, Output, SUPERUSER, Session, document::read, installation::Installation,
    process::intcred_path, run, write_executable,
};

/// What stands below a heading, up to the next one of its level.
fn section(document: &str, heading: &str) -> String {
    let level = heading.split(' ').next().unwrap();
    let (_, below) = document.split_once(&format!("{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
    below.split(&format!("\n{level} ")).next().unwrap().to_owned()
}

/// The blocks of code: language and text.
fn blocks(text: &str) -> Vec<(String, String)> {
    let fenced = text.split("```").skip(1).step_by(2);
    let blocks = fenced.filter_map(|block| block.split_once('\n'));
    blocks.map(|(language, text)| (language.to_owned(), text.to_owned())).collect()
}

/// A machine on which an operator follows a document: a server that knows nothing of the extension, and a folder that
/// stands for the folders that the document names.
struct Machine(Cluster);

impl Machine {
    async fn new() -> Self {
        let cluster = Cluster::builder().without_preload().without_keyring().start();
        let postgres = cluster.named_database("postgres").superuser().await;
        postgres.batch_execute("CREATE DATABASE app").await.unwrap();
        let machine = Self(cluster);
        for folder in ["bin", "etc", "target/release"] {
            let made = machine.shell(SUPERUSER, &format!("mkdir -p {folder}")).await;
            assert_eq!(made.code, 0, "{made:?}");
        }
        let built = machine.0.dir().join("target/release/intcred");
        write_executable(&built, &fs::read(intcred_path()).unwrap());
        machine
    }

    /// Runs a line of a shell as the server's user, in the folder. Whom `sudo` makes is already that user, and what `make`
    /// builds is there.
    async fn shell(&self, role: &str, line: &str) -> Output {
        const SUDO: &str = r#"
            set -e
            sudo() { if [ "$1" = -u ]; then shift 2; fi; "$@"; }
            install() {
                local kept=()
                while (($#)); do case $1 in -o | -g) shift 2 ;; *) kept+=("$1"); shift ;; esac; done
                command install "${kept[@]}"
            }
            make() { :; }
        "#;
        let dir = self.0.dir().display().to_string();
        let line = line
            .replace("/etc/postgresql", &format!("{dir}/etc"))
            .replace("/usr/local/bin", &format!("{dir}/bin"));
        let mut command = self.0.tool("/bin/bash");
        let installation = Installation::find();
        let programs = installation.programs();
        let path = format!("{dir}/bin:{}:/usr/bin:/bin", programs.display());
        command.args(["-c", &format!("{SUDO}\n{line}")]).env("PGUSER", role).env("PATH", path);
        run(command.stdin(Stdio::piped()), b"xoxb-1111-2222-the-first-token\n").await
    }

    /// Does what the blocks say. Returns what the last line printed.
    async fn follow(&mut self, blocks: &[(String, String)]) -> String {
        let mut printed = String::new();
        for (language, text) in blocks {
            match language.as_str() {
                "console" => {
                    for line in text.lines() {
                        let (role, command) = line.split_once("$ ").unwrap_or_else(|| panic!("{line}"));
                        let role = if role.is_empty() { SUPERUSER } else { role };
                        let output = self.shell(role, command).await;
                        assert!(is_well(&output), "{line}: {output:?}");
                        printed = output.stdout;
                    }
                }
                "ini" => {
                    let dir = self.0.dir().display().to_string();
                    let file = self.0.data_dir().join("postgresql.conf");
                    let settings = fs::read_to_string(&file).unwrap() + "\n" + text;
                    fs::write(file, settings.replace("/etc/postgresql", &format!("{dir}/etc"))).unwrap();
                    self.0.restart();
                }
                other => panic!("nobody can follow {other}"),
            }
        }
        printed
    }
}

#[tokio::test]
async fn install_of_the_readme_ends_with_the_credential() {
    let mut machine = Machine::new().await;
    let printed = machine.follow(&blocks(&section(&read("README.md"), "## Install"))).await;
    assert_eq!(printed, "xoxb-1111-2222-the-first-token");
}

/// The recipe below a heading of the document gives a keyring that the server reads, and that a reload reads again.
async fn follow_recipe(heading: &str, programs: &[&str]) {
    for program in programs {
        assert!(is_installed(program), "{program} is missing: `make deps` installs it");
    }
    let mut machine = Machine::new().await;
    let cp = machine.shell(SUPERUSER, "cp target/release/intcred bin/").await;
    assert_eq!(cp.code, 0, "{cp:?}");
    let preload = ("ini".to_owned(), "shared_preload_libraries = 'integration_credentials'".to_owned());
    let recipe = blocks(&section(&read("docs/keys.md"), heading));
    assert_eq!(recipe.iter().map(|(language, _)| language.as_str()).collect::<Vec<_>>(), ["console", "ini"]);
    machine.follow(&[vec![preload], recipe].concat()).await;
    read_back(&machine.0).await;
}

async fn read_back(cluster: &Cluster) {
    let superuser = cluster.named_database("app").superuser().await;
    superuser.batch_execute("CREATE EXTENSION integration_credentials").await.unwrap();
    register(&superuser, ANY, json!({})).await.unwrap();
    set(&superuser, ANY, "under-the-recipe").await.unwrap();
    let later = cluster.named_database("app").superuser().await;
    assert_eq!(crate::helpers::calls::get(&later, ANY).await.unwrap(), "under-the-recipe");
}

fn is_installed(program: &str) -> bool {
    ["/usr/bin", "/bin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(program).exists())
}

#[tokio::test]
async fn recipe_of_age_gives_a_keyring() {
    follow_recipe("### age", &["age", "age-keygen"]).await;
}

#[tokio::test]
async fn recipe_of_pkcs11_gives_a_keyring() {
    follow_recipe("### PKCS#11", &["softhsm2-util", "pkcs11-tool", "openssl"]).await;
}

/// What systemd does with the unit is done by hand: it decrypts, and shows the file to the service alone.
#[tokio::test]
async fn recipe_of_systemd_gives_a_keyring() {
    if !nix::unistd::geteuid().is_root() || !is_installed("systemd-creds") {
        return eprintln!("skipped: systemd-creds in {}", std::thread::current().name().unwrap_or_default());
    }
    let mut machine = Machine::new().await;
    let dir = machine.0.dir().display().to_string();
    let recipe = blocks(&section(&read("docs/keys.md"), "### systemd credentials"));
    let [(_, console), (_, setting)] = recipe.as_slice() else { panic!("{recipe:?}") };
    let encrypt = console.trim().strip_prefix("$ sudo ").unwrap();
    let credentials = "/run/credentials/postgresql.service";
    let script = format!(
        "set -e; cd {dir}; mkdir -p credstore run; target/release/intcred keyring generate --out keyring.json
         {}; rm keyring.json
         systemd-creds decrypt --name=keyring credstore/keyring run/keyring
         chown --reference=data run; chmod 500 run
         chown root run/keyring; chgrp --reference=data run/keyring; chmod 440 run/keyring",
        encrypt.replace("/etc/credstore.encrypted", "credstore")
    );
    let output = run(tokio::process::Command::new("bash").args(["-c", &script]), b"").await;
    assert_eq!(output.code, 0, "{output:?}");
    let preload = "shared_preload_libraries = 'integration_credentials'\n".to_owned();
    let setting = setting.replace(credentials, &format!("{dir}/run"));
    machine.follow(&[("ini".to_owned(), preload + &setting)]).await;
    read_back(&machine.0).await;
}

#[tokio::test]
async fn sql_of_the_documents_runs() {
    let cluster = Cluster::private();
    let postgres = cluster.named_database("postgres").superuser().await;
    postgres.batch_execute("CREATE ROLE globex_admin; CREATE ROLE gateway").await.unwrap();
    postgres.batch_execute("CREATE DATABASE app").await.unwrap();
    let app = cluster.named_database("app").superuser().await;
    app.batch_execute("CREATE EXTENSION integration_credentials").await.unwrap();
    let mut run = 0;
    for (language, text) in ["docs/sql.md", "docs/install.md"].map(|file| blocks(&read(file))).concat() {
        // A parameter wants a driver; the README's install does what this one says.
        if language == "sql" && !text.contains("$1") {
            app.batch_execute(&text).await.unwrap_or_else(|error| panic!("{error:?}: {text}"));
            run += 1;
        }
    }
    assert!(run >= 3, "{run} blocks of SQL");
}

#[tokio::test]
async fn hook_of_the_services_keeps_the_token() {
    let hooks = blocks(&read("docs/services.md"));
    let (_, hook) = hooks.iter().find(|(language, _)| language == "sh").expect("a hook");
    let dir = tempfile::tempdir().unwrap();
    let go = async |event: &str, input: &str| {
        let mut command = tokio::process::Command::new("sh");
        command.args(["-e", "-c", hook]).current_dir(dir.path());
        command.env("INTCRED_KEY", "slack").env("INTCRED_EVENT", event);
        assert_eq!(run(&mut command, input.as_bytes()).await.code, 0, "{event}");
    };
    let token = dir.path().join("token");
    go("changed", "{\"event\":\"changed\"}\ntwo\nlines\n").await;
    assert_eq!(fs::read_to_string(&token).unwrap(), "two\nlines\n");
    assert_eq!(fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    go("removed", "{\"event\":\"removed\"}\n").await;
    assert!(!token.exists());
}

/// The roles of the document of rotations, a service that follows, and stand-ins for the vendor's commands.
struct Office {
    cluster: Cluster,
    superuser: Session,
    /// How many tokens were minted: each command is given another one.
    tokens: u32,
}

impl Office {
    async fn new() -> Self {
        let cluster = Cluster::private();
        let postgres = cluster.named_database("postgres").superuser().await;
        postgres.batch_execute("CREATE DATABASE app").await.unwrap();
        let app = cluster.named_database("app");
        let superuser = app.superuser().await;
        superuser.batch_execute("CREATE EXTENSION integration_credentials").await.unwrap();
        superuser.batch_execute(include_str!("../../../sql/roles.sql")).await.unwrap();
        let roles =
            "CREATE ROLE robin LOGIN IN ROLE integration_credentials_admin, integration_credentials_reader;
            CREATE ROLE otto LOGIN IN ROLE integration_credentials_auditor;
            CREATE ROLE web LOGIN IN ROLE integration_credentials_reader;
            INSERT INTO integration_credentials.lease_epoch (began_at) VALUES (now() - interval '1 day')";
        superuser.batch_execute(roles).await.unwrap();
        write_executable(&cluster.dir().join("probe"), b"#!/bin/sh\ngrep -q xoxb");
        write_executable(&cluster.dir().join("revoke"), b"#!/bin/sh\ncat >> revoked");
        let service = app.connect("web").await;
        let report = "SELECT integration_credentials.report_held_revisions(
            '6f3a3d2e-0000-4000-8000-000000000002', 'web-1',
            jsonb_build_object(key, jsonb_build_array(revision, revision)), '1 minute')
            FROM integration_credentials.list_integrations() WHERE key = 'slack'";
        service.batch_execute(report).await.unwrap();
        tokio::spawn(async move {
            while service.batch_execute(report).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
        Self { cluster, superuser, tokens: 0 }
    }

    async fn go(&mut self, role: &str, line: &str) -> Output {
        self.tokens += 1;
        let programs = intcred_path().parent().unwrap().display().to_string();
        let mut command = tokio::process::Command::new("/bin/bash");
        command.args(["-o", "pipefail", "-c", line]).current_dir(self.cluster.dir());
        command.env("PATH", format!("{programs}:/usr/bin:/bin")).env("HOME", "/nonexistent");
        command.env("PGHOST", self.cluster.dir()).env("PGPORT", self.cluster.port().to_string());
        command.env("PGDATABASE", "app").env("PGUSER", role);
        run(&mut command, format!("xoxb-1111-2222-the-token-{}\n", self.tokens).as_bytes()).await
    }
}

#[tokio::test]
async fn commands_of_the_rotation_do_what_the_document_shows() {
    /// What must be so before a line, which the document describes in words.
    const BEFORE: [(&str, &str); 4] = [
        ("intcred find", "intcred get slack > leaked.txt"),
        ("intcred get slack --which previous", "intcred set slack"),
        ("intcred rollback", "intcred set slack"),
        ("intcred import", "echo SLACK_TOKEN=$(cat) > tokens.env"),
    ];
    /// A reader who types the commands gives the service more time than this test does.
    const CONVERGED: &str =
        "SELECT FROM integration_credentials.rotation_status('slack') WHERE verdict = 'converged'";
    let mut office = Office::new().await;
    assert!(is_well(&office.go("robin", "intcred set slack").await));
    let (mut printed, mut run) = (String::new(), 0);
    for (language, text) in blocks(&read("docs/rotation.md")) {
        match language.as_str() {
            "console" => {
                for line in text.lines() {
                    let (role, command) = line.split_once("$ ").unwrap_or_else(|| panic!("{line}"));
                    for (_, before) in BEFORE.iter().filter(|(beginning, _)| command.starts_with(beginning)) {
                        let output = office.go("robin", before).await;
                        assert!(is_well(&output), "{before}: {output:?}");
                    }
                    if command.starts_with("intcred retire") {
                        until(&office.superuser, CONVERGED).await;
                    }
                    let output = office.go(role, command).await;
                    assert_eq!(output.code, 0, "{line}: {output:?}");
                    printed = output.stdout;
                    run += 1;
                }
            }
            "text" => assert_eq!(printed, text),
            _ => {}
        }
    }
    assert!(run > 15, "{run} commands");
}

#[tokio::test]
async fn scripts_of_the_rotation_give_the_key_to_curl_and_to_no_argument() {
    let scripts = blocks(&read("docs/rotation.md")).into_iter().filter(|(language, _)| language == "sh");
    let mut run_so_far = 0;
    for (_, script) in scripts {
        let dir = tempfile::tempdir().unwrap();
        let curl = b"#!/bin/sh\necho \"$@\" > \"$DIR/arguments\"; cat > \"$DIR/input\"; echo '{\"ok\":true}'";
        write_executable(&dir.path().join("curl"), curl);
        let mut command = tokio::process::Command::new("sh");
        let path = format!("{}:/usr/bin:/bin", dir.path().display());
        command.args(["-c", &script]).env("PATH", path).env("DIR", dir.path());
        assert_eq!(run(&mut command, b"the-key").await.code, 0, "{script}");
        let file = |name| fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(file("input").contains("the-key") && !file("arguments").contains("the-key"), "{script}");
        run_so_far += 1;
    }
    assert_eq!(run_so_far, 2);
}

#[tokio::test]
async fn doctor_of_the_operations_says_what_the_document_shows() {
    let machine = Machine::new().await;
    let mut shown = blocks(&read("docs/operations.md")).into_iter().map(|(_, text)| text);
    let shown = shown.find(|text| text.contains("VERDICT")).expect("a run of the doctor");
    // As in the document: a preloaded library, a keyring that others can read, and no org.
    let dir = machine.0.dir().display().to_string();
    let prepare = format!(
        "target/release/intcred keyring generate --out keyring.json && chmod 644 keyring.json
         echo \"shared_preload_libraries = 'integration_credentials'
         integration_credentials.keyring_file = '{dir}/keyring.json'\" >> data/postgresql.conf"
    );
    assert_eq!(machine.shell(SUPERUSER, &prepare).await.code, 0);
    let mut machine = machine;
    machine.0.restart();
    let create = "psql -d app -c 'CREATE EXTENSION integration_credentials'";
    assert_eq!(machine.shell(SUPERUSER, create).await.code, 0);
    let found = machine.shell(SUPERUSER, "target/release/intcred --dsn dbname=app doctor").await;
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let found: BTreeSet<_> = found.stdout.lines().map(words).collect();
    for line in shown.lines().skip(1).filter(|line| *line != "...").map(words) {
        assert!(found.contains(&line), "the doctor does not say {line:?}, but {found:#?}");
    }
}

#[tokio::test]
async fn log_of_the_redaction_is_what_the_document_shows() {
    let cluster = Cluster::builder().setting("log_statement", "all").start();
    let database = cluster.database().await;
    register(&database.superuser().await, ANY, json!({})).await.unwrap();
    let admin = database.connect(ADMIN).await;
    let literal = format!(
        "SELECT integration_credentials.admin_set_integration_credentials('{ANY}', 'the-value', 'alice')"
    );
    admin.batch_execute(&literal).await.unwrap();
    set(&admin, ANY, "the-value").await.unwrap();
    let log = cluster.log();
    let (_, shown) = &blocks(&read("docs/redaction.md"))[0];
    for line in shown.lines() {
        // The name of a prepared statement is the driver's.
        let ends = line.split("execute s1: ").last().unwrap();
        // Since 17, a DETAIL begins with a capital letter.
        let ends = [ends.to_owned(), ends.replace("DETAIL:  parameters", "DETAIL:  Parameters")];
        let is_logged = |logged: &str| ends.iter().any(|ends| logged.ends_with(ends));
        assert!(log.lines().any(is_logged), "{line} is not in the log:\n{log}");
    }
}
