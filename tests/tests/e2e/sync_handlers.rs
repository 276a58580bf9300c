//! Sync handlers: what becomes of a saved credential, and of the call when handing it on fails.

use crate::helpers::calls::{ANY, count, get, remove, revision, set};
use crate::helpers::fixture::{ASLEEP, Fixture, WAITING, assert_unlogged, heard, plpgsql, sqlstate, until};
use integration_credentials_core::error::ErrorCode;
use serde_json::{Value, json};
use tests::{ADMIN, Canary, Cluster, Database, READER, Session, Shutdown, assert_error};
use tokio_postgres::Error;

const TRUSTRADIUS: &str = "trustradius";
const SIGNATURE: &str = "app.sync(text, text, text)";

impl Fixture {
    /// Makes these PL/pgSQL statements the sync handler of [`ANY`].
    pub async fn handler(&self, mode: &str, body: &str) {
        let function = plpgsql("app.sync(org_slug text, key text, value text) RETURNS void", body);
        self.as_owner(&format!("CREATE OR REPLACE FUNCTION {function}")).await;
        self.register("sync_handler", &[&ANY, &SIGNATURE, &mode]).await.unwrap();
    }

    /// With a table `app.seen`, and such a handler.
    async fn with_handler(mode: &str, body: &str) -> Self {
        let fixture = Self::new().await;
        fixture.as_owner("CREATE TABLE app.seen (seen text)").await;
        fixture.handler(mode, body).await;
        fixture
    }

    /// What handlers wrote to `app.seen`.
    async fn seen(&self) -> Vec<String> {
        let rows = self.superuser.query("SELECT seen FROM app.seen", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// How each set call came out.
    async fn outcomes(&self) -> Vec<String> {
        let statement = "SELECT outcome FROM integration_credentials.tool_metering
                         WHERE tool_key = 'admin_set_integration_credentials' ORDER BY id";
        let rows = self.superuser.query(statement, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

/// Saved, and not handed on: the message that the caller is told.
#[track_caller]
fn failure(result: Result<Value, Error>) -> String {
    let result = result.unwrap();
    assert_eq!(result["hasCredentials"], true, "{result}");
    let message = result["error"]["message"].as_str().expect("a message").to_owned();
    assert_eq!(result["error"], json!({"status": 500, "code": "tool_setup_failed", "message": message}));
    message
}

#[track_caller]
fn assert_handed_on(result: Result<Value, Error>) {
    let result = result.unwrap();
    assert_eq!((&result["hasCredentials"], result.get("error")), (&json!(true), None));
}

async fn aggregated(reader: &Session, key: &str) -> Result<String, Error> {
    let statement = "SELECT integration_credentials.get_aggregator_credentials($1)";
    reader.query_one(statement, &[&key]).await.map(|row| row.get(0))
}

#[tokio::test]
async fn trustradius_reaches_the_aggregator_encrypted_and_leaves_it_when_removed() {
    let database = Cluster::shared().database().await;
    let (admin, superuser) = (database.connect(ADMIN).await, database.superuser().await);
    let reader = database.connect(READER).await;
    assert_error(aggregated(&reader, TRUSTRADIUS).await, ErrorCode::CredentialsNotSet);
    let mut ciphertexts = Vec::new();
    for _ in 0..2 {
        let canary = Canary::new();
        assert_handed_on(set(&admin, TRUSTRADIUS, canary.as_str()).await);
        assert_eq!(aggregated(&reader, TRUSTRADIUS).await.unwrap(), canary.as_str());
        let both = "SELECT a.ciphertext, c.ciphertext FROM integration_credentials.aggregator_credentials a
                    JOIN integration_credentials.configured_integrations c USING (org_slug, integration_key)";
        let row = superuser.query_one(both, &[]).await.unwrap();
        ciphertexts.extend([row.get::<_, Vec<u8>>(0), row.get(1)]);
        assert!(ciphertexts.iter().all(|ciphertext| canary.find(ciphertext).is_empty()));
    }
    ciphertexts.sort();
    ciphertexts.dedup();
    assert_eq!(ciphertexts.len(), 4, "each is encrypted on its own");
    remove(&admin, TRUSTRADIUS).await.unwrap();
    assert_error(aggregated(&reader, TRUSTRADIUS).await, ErrorCode::CredentialsNotSet);
    assert_eq!(count(&superuser, "aggregator_credentials").await, 0);
}

#[tokio::test]
async fn each_org_has_its_own_in_the_aggregator() {
    let fixture = Fixture::new().await;
    // The shipped handler serves any key.
    let shipped = "integration_credentials.sync_aggregator_credentials(text, text, text)";
    fixture.register("sync_handler", &[&ANY, &shipped]).await.unwrap();
    let mut sessions = Vec::new();
    for org in ["acme", "globex"] {
        let admin = fixture.connect_as(ADMIN, org).await;
        assert_handed_on(set(&admin, ANY, org).await);
        sessions.push((admin, fixture.connect_as(READER, org).await));
    }
    let [(acme, acmes_reader), (_, globexs_reader)] = sessions.as_slice() else { unreachable!() };
    assert_eq!(aggregated(acmes_reader, ANY).await.unwrap(), "acme");
    assert_eq!(aggregated(globexs_reader, ANY).await.unwrap(), "globex");
    remove(acme, ANY).await.unwrap();
    assert_error(aggregated(acmes_reader, ANY).await, ErrorCode::CredentialsNotSet);
    assert_eq!(aggregated(globexs_reader, ANY).await.unwrap(), "globex");
}

/// Writes, says the value at every level, and fails.
const FAILING: &str = "INSERT INTO app.seen VALUES (value); NOTIFY app, 'leak';
    RAISE INFO '%', value; RAISE LOG '%', value; RAISE WARNING '%', value;
    RAISE EXCEPTION 'not taken: % %', value, quote_literal(value) USING DETAIL = value, HINT = value";

#[tokio::test]
async fn a_failure_in_surface_mode_is_told_and_the_credential_is_saved() {
    let mut fixture = Fixture::with_handler("surface", FAILING).await;
    let (mut listener, canary) = (fixture.listener().await, Canary::new());
    let result = set(&fixture.admin, ANY, canary.as_str()).await;
    canary.assert_absent(&result);
    assert_eq!(failure(result), "not taken: <redacted> '<redacted>'");
    canary.assert_absent(&fixture.state().await);
    assert_unlogged(&canary);
    assert!(fixture.admin.notices().is_empty());

    assert_eq!(get(&fixture.database.connect(READER).await, ANY).await.unwrap(), canary.as_str());
    assert_eq!(fixture.seen().await, [""; 0]);
    assert_eq!(fixture.outcomes().await, ["tool_setup_failed"]);
    assert_eq!(fixture.audited("set_integration_credentials").await, [json!({"wasUpdate": false})]);
    assert_eq!(heard(&mut listener, 1).await.len(), 1, "the credential's, and not the handler's");

    // Repaired, and called again.
    fixture.handler("surface", "INSERT INTO app.seen VALUES (key); NOTIFY app, 'done'").await;
    assert_handed_on(set(&fixture.admin, ANY, canary.as_str()).await);
    assert_eq!(fixture.seen().await, [ANY]);
    assert_eq!(fixture.outcomes().await, ["tool_setup_failed", "ok"]);
    assert_eq!((heard(&mut listener, 2).await.len(), revision(&fixture.admin, ANY).await), (2, 2));
}

#[tokio::test]
async fn a_failure_in_background_mode_is_logged() {
    let fixture = Fixture::with_handler("background", FAILING).await;
    let canary = Canary::new();
    assert_handed_on(set(&fixture.admin, ANY, canary.as_str()).await);
    let org = fixture.database.name();
    let line = format!(
        "LOG:  the sync handler of integration \"any\" of org \"{org}\" failed: \
         not taken: <redacted> '<redacted>'\n"
    );
    assert_eq!(Cluster::shared().log().matches(&line).count(), 1);
    assert_unlogged(&canary);
    assert_eq!(fixture.seen().await, [""; 0]);
    assert_eq!(fixture.outcomes().await, ["ok"]);
    assert_eq!(get(&fixture.database.connect(READER).await, ANY).await.unwrap(), canary.as_str());
}

#[tokio::test]
async fn it_gets_org_key_and_value_and_runs_as_its_owner() {
    let body = "INSERT INTO app.seen VALUES (concat_ws('|', org_slug, key, value, current_user, session_user,
        current_setting('search_path'), current_setting('transaction_read_only')))";
    let fixture = Fixture::with_handler("surface", body).await;
    assert_handed_on(set(&fixture.admin, ANY, "it's").await);
    let (org, owner) = (fixture.database.name(), &fixture.owner);
    assert_eq!(fixture.seen().await, [format!("{org}|any|it's|{owner}|{ADMIN}|pg_catalog, pg_temp|off")]);
    for (body, why) in [
        ("SET ROLE postgres", "cannot set parameter \"role\""),
        ("SET SESSION AUTHORIZATION DEFAULT", "cannot set parameter \"session_authorization\""),
        ("COMMIT", "invalid transaction termination"),
        ("DELETE FROM integration_credentials.configured_integrations", "permission denied for schema"),
    ] {
        fixture.handler("surface", body).await;
        let message = failure(set(&fixture.admin, ANY, "value").await);
        assert!(message.starts_with(why), "{body}: {message}");
    }
}

#[tokio::test]
async fn what_it_wrote_shares_the_fate_of_the_callers_transaction() {
    let fixture = Fixture::with_handler("surface", "INSERT INTO app.seen VALUES (value)").await;
    let admin = &fixture.admin;
    for (begin, value, end) in [
        ("BEGIN", "lost", "ROLLBACK"),
        ("BEGIN", "kept", "COMMIT"),
        ("BEGIN; SAVEPOINT s", "lost too", "ROLLBACK TO s; COMMIT"),
        ("BEGIN; SAVEPOINT s", "kept too", "RELEASE s; COMMIT"),
    ] {
        admin.batch_execute(begin).await.unwrap();
        assert_handed_on(set(admin, ANY, value).await);
        admin.batch_execute(end).await.unwrap();
    }
    assert_eq!(fixture.seen().await, ["kept", "kept too"]);
    assert_eq!(revision(admin, ANY).await, 2);
}

#[tokio::test]
async fn what_it_sets_does_not_outlive_the_call() {
    let sets = "SET client_min_messages = notice; SET work_mem = '64kB'; SET LOCAL search_path = app;
                PERFORM set_config('application_name', value, false)";
    let mut fixture = Fixture::with_handler("surface", sets).await;
    let settings =
        "SELECT ARRAY(SELECT name || setting FROM pg_settings WHERE name IN ('client_min_messages',
        'work_mem', 'search_path', 'application_name', 'log_min_messages', 'transaction_read_only'))";
    let own = "SET application_name = 'mine'; SET search_path = public; SET client_min_messages = warning";
    fixture.admin.batch_execute(own).await.unwrap();
    let before: Vec<String> = fixture.admin.query_one(settings, &[]).await.unwrap().get(0);
    for body in [sets.to_owned(), format!("{sets}; RAISE EXCEPTION 'no'")] {
        fixture.handler("surface", &body).await;
        for (begin, end) in [("", ""), ("BEGIN", "COMMIT")] {
            fixture.admin.batch_execute(begin).await.unwrap();
            set(&fixture.admin, ANY, "value").await.unwrap();
            let after: Vec<String> = fixture.admin.query_one(settings, &[]).await.unwrap().get(0);
            assert_eq!(after, before);
            fixture.admin.batch_execute(end).await.unwrap();
        }
    }
    assert!(fixture.admin.notices().is_empty());
}

#[tokio::test]
async fn one_that_is_gone_or_grew_powerful_is_a_failure_and_the_credential_is_saved() {
    let fixture = Fixture::new().await;
    let owner = &fixture.owner;
    for (change, repair) in [
        (format!("ALTER ROLE {owner} SUPERUSER"), format!("ALTER ROLE {owner} NOSUPERUSER")),
        (format!("DROP FUNCTION {SIGNATURE}"), String::new()),
        ("ALTER SCHEMA app RENAME TO gone".into(), "ALTER SCHEMA gone RENAME TO app".into()),
    ] {
        fixture.handler("surface", "NULL").await;
        fixture.superuser.batch_execute(&change).await.unwrap();
        let canary = Canary::new();
        let result = set(&fixture.admin, ANY, canary.as_str()).await;
        canary.assert_absent(&result);
        let message = failure(result);
        assert!(message.contains(SIGNATURE), "{message}");
        assert_eq!(get(&fixture.database.connect(READER).await, ANY).await.unwrap(), canary.as_str());
        fixture.superuser.batch_execute(&repair).await.unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_a_sync_handler_is_refused_and_null_takes_one_off() {
    let fixture = Fixture::with_handler("surface", "RAISE EXCEPTION 'asked'").await;
    let theirs = "CREATE FUNCTION app.theirs(text, text, text) RETURNS void LANGUAGE sql AS ''";
    fixture.superuser.batch_execute(theirs).await.unwrap();
    let ours =
        "CREATE FUNCTION app.returns_text(text, text, text) RETURNS text LANGUAGE sql AS 'SELECT NULL';
                CREATE FUNCTION app.few(text, text) RETURNS void LANGUAGE sql AS ''";
    fixture.as_owner(ours).await;
    let before = fixture.state().await;
    for (key, signature, mode, code) in [
        (ANY, "app.theirs(text, text, text)", Some("surface"), ErrorCode::InvalidRequest),
        (ANY, "app.returns_text(text, text, text)", Some("surface"), ErrorCode::InvalidRequest),
        (ANY, "app.few(text, text)", Some("surface"), ErrorCode::InvalidRequest),
        (ANY, "app.missing(text, text, text)", Some("surface"), ErrorCode::InvalidRequest),
        (ANY, SIGNATURE, Some("loud"), ErrorCode::InvalidRequest),
        (ANY, SIGNATURE, None, ErrorCode::InvalidRequest),
        ("no such key", SIGNATURE, Some("surface"), ErrorCode::IntegrationNotFound),
    ] {
        let refused = fixture.register("sync_handler", &[&key, &signature, &mode]).await;
        assert_error(refused, code);
    }
    assert_eq!(fixture.state().await, before);
    assert_eq!(failure(set(&fixture.admin, ANY, "value").await), "asked");

    fixture.register("sync_handler", &[&ANY, &None::<&str>]).await.unwrap();
    assert_handed_on(set(&fixture.admin, ANY, "value").await);
    // The mode is surface unless it is given.
    fixture.register("sync_handler", &[&ANY, &SIGNATURE]).await.unwrap();
    assert_eq!(failure(set(&fixture.admin, ANY, "value").await), "asked");

    let registered = json!({"syncHandler": SIGNATURE, "mode": "surface"});
    let metadata = fixture.audited("register_sync_handler").await;
    assert_eq!(metadata, [registered.clone(), json!({"syncHandler": null, "mode": null}), registered]);
}

#[tokio::test]
async fn a_cancel_during_a_handler_takes_everything_back() {
    let body = "INSERT INTO app.seen VALUES (value); PERFORM pg_sleep(1000)";
    for mode in ["surface", "background"] {
        let fixture = Fixture::with_handler(mode, body).await;
        let (mut listener, before, canary) = (fixture.listener().await, fixture.state().await, Canary::new());
        let cancelled = fixture.set_and_cancel(canary.as_str()).await;
        canary.assert_absent(&cancelled);
        assert_eq!(sqlstate(cancelled), "57014", "{mode}");
        assert_eq!(fixture.state().await, before);
        assert_eq!(fixture.seen().await, [""; 0]);
        assert_eq!(heard(&mut listener, 0).await, [""; 0]);
        assert_unlogged(&canary);
    }
}

/// A second cluster, and a foreign table `app.keys` for the handler's owner to write to it.
async fn with_remote() -> (Fixture, Cluster, Database) {
    let remote = Cluster::builder().without_preload().without_keyring().setting("fsync", "off").start();
    let database = remote.empty_database().await;
    let table = "CREATE TABLE keys (org text, key text, value text);
                 CREATE VIEW slow AS SELECT pg_sleep(1000)::text AS value";
    database.superuser().await.batch_execute(table).await.unwrap();

    let fixture = Fixture::new().await;
    let (dir, port, name, owner) = (remote.dir().display(), remote.port(), database.name(), &fixture.owner);
    let foreign = format!(
        "CREATE EXTENSION postgres_fdw;
         CREATE SERVER remote FOREIGN DATA WRAPPER postgres_fdw
             OPTIONS (host '{dir}', port '{port}', dbname '{name}');
         CREATE USER MAPPING FOR {owner} SERVER remote OPTIONS (user 'postgres', password_required 'false');
         CREATE FOREIGN TABLE app.keys (org text, key text, value text)
             SERVER remote OPTIONS (schema_name 'public');
         CREATE FOREIGN TABLE app.slow (value text) SERVER remote OPTIONS (schema_name 'public');
         ALTER FOREIGN TABLE app.keys OWNER TO {owner}; ALTER FOREIGN TABLE app.slow OWNER TO {owner}"
    );
    fixture.superuser.batch_execute(&foreign).await.unwrap();
    (fixture, remote, database)
}

/// What a handler does with that table.
const INSERT: &str = "INSERT INTO app.keys VALUES (org_slug, key, value)";

async fn remote_values(remote: &Database) -> Vec<String> {
    values_of(&remote.superuser().await).await
}

async fn values_of(remote: &Session) -> Vec<String> {
    let rows = remote.query("SELECT value FROM keys", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_remote_database_may_be_away_and_come_back() {
    let (fixture, mut remote, database) = with_remote().await;
    fixture.handler("surface", INSERT).await;
    let (admin, canary) = (&fixture.admin, Canary::new());
    assert_handed_on(set(admin, ANY, "first").await);
    admin.batch_execute("BEGIN").await.unwrap();
    assert_handed_on(set(admin, ANY, "rolled back").await);
    admin.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(remote_values(&database).await, ["first"]);

    remote.stop(Shutdown::Fast);
    let away = set(admin, ANY, canary.as_str()).await;
    canary.assert_absent(&away);
    failure(away);
    assert_eq!(get(&fixture.database.connect(READER).await, ANY).await.unwrap(), canary.as_str());

    remote.start();
    assert_handed_on(set(admin, ANY, canary.as_str()).await);
    assert_eq!(remote_values(&database).await, ["first", canary.as_str()]);
    assert_eq!(fixture.outcomes().await, ["ok", "tool_setup_failed", "ok"]);
    assert_unlogged(&canary);
}

#[tokio::test]
async fn a_remote_database_may_give_up_on_a_statement() {
    let (fixture, _remote, database) = with_remote().await;
    let impatient = format!("ALTER DATABASE {} SET statement_timeout = '100ms'", database.name());
    let remote = database.superuser().await;
    remote.batch_execute(&impatient).await.unwrap();
    fixture.handler("surface", &format!("{INSERT}; PERFORM FROM app.slow")).await;
    // The same SQLSTATE as a cancel of the caller, and yet not one.
    let message = failure(set(&fixture.admin, ANY, "value").await);
    assert_eq!(message, "canceling statement due to statement timeout");
    assert_eq!(revision(&fixture.admin, ANY).await, 1);
    assert_eq!(values_of(&remote).await, [""; 0]);
}

#[tokio::test]
async fn a_remote_database_that_goes_away_during_the_call_ends_it() {
    let (fixture, mut remote, database) = with_remote().await;
    fixture.handler("surface", &format!("{INSERT}; PERFORM FROM app.slow")).await;
    let (before, canary, watcher) = (fixture.state().await, Canary::new(), database.superuser().await);
    let stop = async {
        until(&watcher, ASLEEP).await;
        remote.stop(Shutdown::Fast);
    };
    let (ended, ()) = tokio::join!(set(&fixture.admin, ANY, canary.as_str()), stop);
    canary.assert_absent(&ended);
    // postgres_fdw does not let the transaction commit: it cannot tell what became of its part.
    assert_eq!(sqlstate(ended), "08000");
    assert_eq!(fixture.state().await, before);
    assert_unlogged(&canary);

    remote.start();
    fixture.handler("surface", INSERT).await;
    assert_handed_on(set(&fixture.admin, ANY, canary.as_str()).await);
    assert_eq!(remote_values(&database).await, [canary.as_str()]);
}

#[tokio::test]
async fn a_remote_database_that_is_lost_when_the_handler_has_ended_leaves_a_sound_session() {
    const GATE: &str = "pg_advisory_xact_lock(4711)";
    let (fixture, _remote, database) = with_remote().await;
    fixture.handler("surface", &format!("{INSERT}; PERFORM {GATE}")).await;
    let remote = database.superuser().await;
    let before = fixture.state().await;
    let gate = &fixture.superuser;
    let lose = async || {
        let waits = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted";
        until(gate, waits).await;
        let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        remote.query(all, &[]).await.unwrap();
        gate.batch_execute("COMMIT").await.unwrap();
    };
    let close = format!("BEGIN; SELECT {GATE}");
    let canary = Canary::new();
    let call =
        format!("PERFORM integration_credentials.admin_set_integration_credentials('{ANY}', 'v', 'actor')");
    let caught = format!("DO $$ BEGIN {call}; EXCEPTION WHEN OTHERS THEN NULL; END $$");
    gate.batch_execute(&close).await.unwrap();
    let (plain, ()) = tokio::join!(set(&fixture.admin, ANY, canary.as_str()), lose());
    canary.assert_absent(&plain);
    assert!(plain.is_err());
    fixture.admin.batch_execute("SELECT").await.unwrap();
    gate.batch_execute(&close).await.unwrap();
    let (caught, ()) = tokio::join!(fixture.admin.batch_execute(&caught), lose());
    assert!(caught.is_err(), "postgres_fdw does not let it commit");
    assert_eq!(fixture.state().await, before);
    // What this session is told is saved, others see.
    set(&fixture.admin, "trustradius", "another-value").await.unwrap();
    assert_eq!(get(&fixture.database.connect(READER).await, "trustradius").await.unwrap(), "another-value");
    assert_unlogged(&canary);
}

#[tokio::test]
async fn what_a_remote_database_says_meanwhile_is_not_logged() {
    let (fixture, _remote, database) = with_remote().await;
    let talkative = "CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql
                         AS $$ BEGIN RAISE WARNING 'got %', NEW.value; RETURN NEW; END $$;
                     CREATE TRIGGER say BEFORE INSERT ON keys FOR EACH ROW EXECUTE FUNCTION say()";
    database.superuser().await.batch_execute(talkative).await.unwrap();
    fixture.handler("surface", INSERT).await;
    let canary = Canary::new();
    assert_handed_on(set(&fixture.admin, ANY, canary.as_str()).await);
    assert_eq!(remote_values(&database).await, [canary.as_str()]);
    assert_unlogged(&canary);
}

#[tokio::test]
async fn who_waits_hands_nothing_to_a_handler_that_is_gone() {
    let fixture = Fixture::with_handler("surface", "INSERT INTO app.seen VALUES (value)").await;
    let (admin, waiter) = (&fixture.admin, fixture.database.connect(ADMIN).await);
    admin.batch_execute("BEGIN").await.unwrap();
    set(admin, ANY, "seen").await.unwrap();
    let waiting = tokio::spawn(async move { set(&waiter, ANY, "not seen").await });
    until(&fixture.superuser, WAITING).await;
    let take_off = "SELECT integration_credentials.register_sync_handler('any', NULL)";
    fixture.superuser.batch_execute(take_off).await.unwrap();
    admin.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(fixture.seen().await, ["seen"]);
}
