//! `make demo`: the whole job as a story, on a throwaway cluster.

use std::process::Stdio;
use tests::{ADMIN, AUDITOR, Cluster, Database, READER, intcred, run};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
    time::{Duration, sleep},
};

/// Long enough to read a line, short enough to stay.
const BEAT: Duration = Duration::from_millis(1200);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("Starting a throwaway Postgres with the extension preloaded ...");
    let cluster = Cluster::private();
    let database = cluster.database().await;
    database.set_org("acme").await;

    tell("A service listens. Any role may; what it hears never holds a value.").await;
    let (mut listener, mut heard) = listen(&database);
    hear(&mut heard).await;

    tell("An admin sets the Slack token of org acme: from a prompt, a file or a pipe, never from argv, and sealed on the way.")
        .await;
    intcred_as(&database, ADMIN, &["set", "slack", "--actor", "alice"], "xoxb-1111-2222-the-first-token")
        .await;
    hear(&mut heard).await;

    tell("The same again is a rotation.").await;
    intcred_as(&database, ADMIN, &["set", "slack", "--actor", "alice"], "xoxb-1111-2222-the-second-token")
        .await;
    hear(&mut heard).await;

    tell(
        "A value that breaks the catalog's rules is refused. What was there stays, and nobody hears a thing.",
    )
    .await;
    intcred_as(&database, ADMIN, &["set", "slack", "--actor", "alice"], "not a Slack token at all").await;

    tell("Readers read; admins cannot.").await;
    intcred_as(&database, READER, &["get", "slack"], "").await;
    intcred_as(&database, ADMIN, &["get", "slack"], "").await;

    tell("An auditor sees who did what: the actor as given, and the role as Postgres knows it.").await;
    intcred_as(&database, AUDITOR, &["audit"], "").await;

    tell("And this is all that lies in the table, in WAL and in every dump of it:").await;
    let statement =
        "SELECT org_slug, integration_key, revision, left(ciphertext::text, 60) || '...' AS ciphertext
                     FROM integration_credentials.configured_integrations";
    let psql = run(cluster.tool("psql").args(["-X", "-d", database.name(), "-c", statement]), b"").await;
    print!("{}", indented(&psql.success()));

    listener.start_kill().expect("the listener is our child");
    tell(
        "To do the same on your own database:
    make install PG_CONFIG=/path/to/pg_config       # builds and installs the extension
    make cli                                        # builds target/release/intcred
    intcred keyring generate --out keyring.json     # then give it to the server's user: chown postgres
    # postgresql.conf: shared_preload_libraries = 'integration_credentials'
    #                  integration_credentials.keyring_file = '/path/to/keyring.json'
    # restart, then as a superuser:
    psql -c 'CREATE EXTENSION integration_credentials'
    intcred grant alice --to admin                  # makes the group roles, and alice a member of one
  The README has the rest.",
    )
    .await;
}

async fn tell(what: &str) {
    sleep(BEAT).await;
    println!("\n# {what}");
}

/// Runs the command line as a role, and shows it as that role would type it.
async fn intcred_as(database: &Database, role: &str, arguments: &[&str], stdin: &str) {
    let input = if stdin.is_empty() { String::new() } else { format!(" < value.txt     # holds: {stdin}") };
    println!("  {role}$ intcred {}{input}", arguments.join(" "));
    let output = run(intcred().args(["--dsn", &database.dsn(role)]).args(arguments), stdin.as_bytes()).await;
    print!("{}{}", indented(&output.stdout), indented(&output.stderr));
    if output.code != 0 {
        println!("  (exit code {})", output.code);
    }
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |text, line| text + "  " + line + "\n")
}

fn listen(database: &Database) -> (Child, Lines<BufReader<ChildStdout>>) {
    println!("  {READER}$ intcred listen");
    let mut child = intcred()
        .args(["--dsn", &database.dsn(READER), "listen"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("intcred starts");
    let stdout = child.stdout.take().expect("standard output is a pipe");
    (child, BufReader::new(stdout).lines())
}

async fn hear(heard: &mut Lines<BufReader<ChildStdout>>) {
    let line = heard.next_line().await.expect("the listener writes").expect("the listener listens");
    println!("  the listener hears: {line}");
}
