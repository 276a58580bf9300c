//! Sealed values: encrypted by the client, so that no SQL ever holds the plaintext.

use crate::helpers::calls::{ANY, SealTo, count, enable, get, register, revision, set_sealed};
use crate::helpers::fixture::{CHECK, Fixture, plpgsql};
use integration_credentials_core::{
    error::ErrorCode,
    keyring::Keyring,
    limits::DEFAULT_VALUE_CHARS,
    seal::{self, CLOCK_SKEW_SECONDS, LIFETIME_SECONDS, MAX_SEALED_BYTES, SealingKey},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tests::{ADMIN, Canary, Cluster, Database, READER, Session, Shutdown, assert_error, intcred, run};

async fn admin() -> (Database, Session) {
    let database = Cluster::shared().database().await;
    database.set_org("acme").await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    (database, admin)
}

/// With what only a test would pass.
async fn set_raw(session: &Session, sealed: Option<&[u8]>) -> Result<Value, tokio_postgres::Error> {
    let statement =
        "SELECT integration_credentials.admin_set_integration_credentials_sealed('any', $1, 'actor')";
    session.query_one(statement, &[&sealed]).await.map(|row| row.get(0))
}

#[tokio::test]
async fn a_sealed_value_is_set_like_any_other() {
    let (database, admin) = admin().await;
    let canary = Canary::new();
    for (sealed_for, was_update) in [(canary.to_string(), false), ("😀".repeat(DEFAULT_VALUE_CHARS), true)]
    {
        let sealed = SealTo::ask(&admin).await.seal(ANY, &sealed_for);
        let result = set_sealed(&admin, ANY, &sealed).await.unwrap();
        assert_eq!((&result["key"], &result["hasCredentials"]), (&json!(ANY), &json!(true)));
        assert_eq!(get(&database.connect(READER).await, ANY).await.unwrap(), sealed_for);
        let superuser = database.superuser().await;
        let audit = "SELECT metadata FROM integration_credentials.webapp_org_admin_audit_log
                     WHERE action = 'set_integration_credentials' ORDER BY id DESC LIMIT 1";
        let metadata: Value = superuser.query_one(audit, &[]).await.unwrap().get(0);
        assert_eq!(metadata, json!({"wasUpdate": was_update}));
    }
    let metering = "SELECT metadata FROM integration_credentials.tool_metering
                    WHERE tool_key = 'admin_set_integration_credentials_sealed' LIMIT 1";
    let metadata: Value = database.superuser().await.query_one(metering, &[]).await.unwrap().get(0);
    assert_eq!(metadata, json!({"parameters": {"key": ANY, "sealed": "<redacted>", "actor": "actor"}}));
}

#[tokio::test]
async fn what_does_not_open_is_refused_with_its_reason_and_stores_nothing() {
    let (database, admin) = admin().await;
    let to = SealTo::ask(&admin).await;
    let canary = Canary::new();
    let good = to.seal(ANY, canary.as_str());
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let unknown = SealingKey { id: "kdeadbeef".into(), ..to.key.clone() };
    let another = seal::sealing_key(&Keyring::generate().unwrap());
    let forged = SealingKey { id: to.key.id.clone(), public: another.public };
    let with = |to: SealTo| Some(to.seal(ANY, canary.as_str()));
    let of = |value: &str| Some(to.seal(ANY, value));
    let at = |issued_at| with(SealTo { issued_at, ..to.clone() });
    let form_one = [&[1], &good[1..]].concat();
    for (sealed, expected) in [
        (None, "NULL"),
        (Some(vec![]), "0 bytes"),
        (Some(vec![2; MAX_SEALED_BYTES + 1]), "bytes"),
        (Some(good[..20].to_vec()), "truncated"),
        (Some(good[..good.len() - 1].to_vec()), "does not open"),
        (Some(flipped), "does not open"),
        (Some(canary.as_str().into()), "truncated"),
        (Some(form_one), "form 1"),
        (Some(to.seal("slack", canary.as_str())), "does not open"),
        (with(SealTo { org: "globex".into(), ..to.clone() }), "does not open"),
        (with(SealTo { role: READER.into(), ..to.clone() }), "does not open"),
        (with(SealTo { role: "integration_credentials_admin".into(), ..to.clone() }), "does not open"),
        (with(SealTo { key: forged, ..to.clone() }), "does not open"),
        (with(SealTo { key: unknown, ..to.clone() }), "kdeadbeef"),
        (at(to.issued_at - LIFETIME_SECONDS - 1), "it expires after 600"),
        (at(0), "it expires after 600"),
        // By as much more as the test may take.
        (at(to.issued_at + CLOCK_SKEW_SECONDS + 60), "ahead of this server's clock"),
        (at(u64::MAX), "ahead of this server's clock"),
        (of(&"x".repeat(8193)), "8193 characters; at most 8192 are allowed"),
        (of(""), "is empty"),
        (of("a\0b"), "NUL character"),
    ] {
        let error = set_raw(&admin, sealed.as_deref()).await;
        let error = assert_error(error, ErrorCode::InvalidRequest);
        assert!(error.message().contains(expected), "{expected}: {error:?}");
        canary.assert_absent(&error);
    }
    assert_eq!(count(&database.superuser().await, "configured_integrations").await, 0);

    let error = set_sealed(&admin, "nowhere", &to.seal("nowhere", "value")).await;
    assert_error(error, ErrorCode::IntegrationNotFound);
    enable(&admin, ANY, false).await.unwrap();
    assert_error(set_sealed(&admin, ANY, &good).await, ErrorCode::IntegrationDisabled);
}

#[tokio::test]
async fn rules_validators_and_handlers_see_the_value_and_scrub_it() {
    let fixture = Fixture::new().await;
    let canary = Canary::new();
    let admin = fixture.connect_as(ADMIN, "acme").await;
    let sealed = SealTo::ask(&admin).await.seal(ANY, canary.as_str());
    fixture.validator("RETURN 'not ' || value").await;
    let error = assert_error(set_sealed(&admin, ANY, &sealed).await, ErrorCode::InvalidCredentials);
    assert_eq!(error.message(), "not <redacted>");
    let accept = format!(
        "CREATE OR REPLACE FUNCTION {}",
        plpgsql(CHECK, &format!("RETURN nullif(value, '{canary}')"))
    );
    fixture.as_owner(&accept).await;
    set_sealed(&admin, ANY, &sealed).await.unwrap();
    register(&admin, ANY, json!({"prefix": "another"})).await.unwrap();
    let error = assert_error(set_sealed(&admin, ANY, &sealed).await, ErrorCode::InvalidCredentials);
    canary.assert_absent(&error);
}

/// What an admin sees of another's call, in a log or a pooler, is of no use: neither to set it nor to ask about it.
#[tokio::test]
async fn a_recorded_value_opens_for_the_session_role_that_sealed_it_alone() {
    let (database, admin) = admin().await;
    let superuser = database.superuser().await;
    let name = database.name();
    let roles = format!(
        "CREATE ROLE {name}_other LOGIN IN ROLE integration_credentials_admin;
         CREATE ROLE {name}_pooler LOGIN IN ROLE {ADMIN}"
    );
    superuser.batch_execute(&roles).await.unwrap();
    let canary = Canary::new();
    let sealed = SealTo::ask(&admin).await.seal(ANY, canary.as_str());
    let other = database.connect(&format!("{name}_other")).await;
    // SET ROLE makes nobody another session role, and so does a definer function.
    let pooler = database.connect(&format!("{name}_pooler")).await;
    pooler.batch_execute(&format!("SET ROLE {ADMIN}")).await.unwrap();
    let script = format!(
        "CREATE FUNCTION public.by_alice(key text, sealed bytea) RETURNS jsonb LANGUAGE sql SECURITY DEFINER AS
             $$ SELECT integration_credentials.admin_set_integration_credentials_sealed(key, sealed, 'actor') $$;
         ALTER FUNCTION public.by_alice(text, bytea) OWNER TO {ADMIN}"
    );
    superuser.batch_execute(&script).await.unwrap();
    let before = count(&superuser, "configured_integrations").await;
    for (session, rules) in
        [&other, &pooler].iter().flat_map(|session| [(session, "right"), (session, "wrong")])
    {
        let guess = json!({"prefix": if rules == "right" { &canary.as_str()[..1] } else { "no" }});
        session.batch_execute("BEGIN").await.unwrap();
        register(session, ANY, guess).await.unwrap();
        session.batch_execute("SAVEPOINT s").await.unwrap();
        let error = assert_error(set_sealed(session, ANY, &sealed).await, ErrorCode::InvalidRequest);
        assert!(error.message().contains("does not open"), "{error:?}");
        session.batch_execute("ROLLBACK TO s").await.unwrap();
        let call = session.query("SELECT public.by_alice('any', $1)", &[&sealed]).await;
        assert_error(call, ErrorCode::InvalidRequest);
        session.batch_execute("ROLLBACK").await.unwrap();
        assert_error(set_sealed(session, ANY, &sealed).await, ErrorCode::InvalidRequest);
    }
    assert_eq!(count(&superuser, "configured_integrations").await, before);

    // Nor in a function of somebody else's that the one who sealed it is made to run.
    let script = format!(
        "CREATE FUNCTION public.by_other(key text, sealed bytea) RETURNS jsonb LANGUAGE sql SECURITY DEFINER AS
             $$ SELECT integration_credentials.admin_set_integration_credentials_sealed(key, sealed, 'actor') $$;
         ALTER FUNCTION public.by_other(text, bytea) OWNER TO {name}_other"
    );
    superuser.batch_execute(&script).await.unwrap();
    let error = assert_error(
        admin.query("SELECT public.by_other('any', $1)", &[&sealed]).await,
        ErrorCode::InvalidRequest,
    );
    assert!(error.message().contains("function of another role"), "{error:?}");
    assert_eq!(count(&superuser, "configured_integrations").await, before);

    // For the one who sealed it, it opens under any SET ROLE, in any session.
    let again = database.connect(ADMIN).await;
    again.batch_execute("SET ROLE integration_credentials_admin").await.unwrap();
    assert_eq!(SealTo::ask(&again).await.role, ADMIN);
    set_sealed(&again, ANY, &sealed).await.unwrap();
    // SET SESSION AUTHORIZATION, which only a superuser may, does make another.
    superuser.batch_execute(&format!("SET SESSION AUTHORIZATION {ADMIN}")).await.unwrap();
    assert_eq!(SealTo::ask(&superuser).await.role, ADMIN);
    set_sealed(&superuser, ANY, &sealed).await.unwrap();
    superuser.batch_execute("RESET SESSION AUTHORIZATION").await.unwrap();
}

/// Nor of use to somebody with the same login: rules that are rolled back see no sealed value.
#[tokio::test]
async fn rules_and_functions_of_the_own_transaction_see_no_sealed_value() {
    let fixture = Fixture::new().await;
    let (superuser, database) = (&fixture.superuser, &fixture.database);
    let canary = Canary::new();
    let sync = "app.sync(org_slug text, key text, value text) RETURNS void";
    fixture.validator("RETURN NULL").await;
    fixture.as_owner(&format!("CREATE FUNCTION {}", plpgsql(sync, "NULL"))).await;
    let mode: &(dyn tokio_postgres::types::ToSql + Sync) = &"surface";
    fixture.register("sync_handler", &[&ANY, &"app.sync(text, text, text)", mode]).await.unwrap();
    let sealed = SealTo::ask(superuser).await.seal(ANY, canary.as_str());
    let catalog = "integration_credentials.integration_catalog";
    let (right, wrong) = (format!(r#"{{"prefix": "{}"}}"#, &canary.as_str()[..4]), r#"{"prefix": "no"}"#);
    let registered = |rules: &str| {
        format!("SELECT integration_credentials.admin_register_integration('any', 'any', 'actor', '{rules}')")
    };
    let updated =
        |rules: &str| format!("UPDATE {catalog} SET rules = '{rules}' WHERE integration_key = 'any'");
    let owner = &fixture.owner;
    let replaced = |body: &str| {
        format!("SET LOCAL ROLE {owner}; CREATE OR REPLACE FUNCTION {}; RESET ROLE", plpgsql(CHECK, body))
    };
    for change in [
        registered(&right),
        registered(wrong),
        format!("SAVEPOINT a; {}; RELEASE a", registered(&right)),
        format!("SAVEPOINT a; SAVEPOINT b; {}; RELEASE b; RELEASE a", registered(wrong)),
        format!("DO $do$ BEGIN {}; EXCEPTION WHEN OTHERS THEN RAISE; END $do$", updated(&right)),
        updated(&right),
        updated(wrong),
        format!("ALTER TABLE {catalog} DISABLE TRIGGER ALL; {}", updated(wrong)),
        format!("SET LOCAL session_replication_role = replica; {}", updated(wrong)),
        format!(
            "CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT * FROM {catalog}; DELETE FROM {catalog};
             INSERT INTO {catalog} SELECT * FROM kept"
        ),
        "SELECT integration_credentials.admin_set_integration_enabled('any', false, 'actor');
         SELECT integration_credentials.admin_set_integration_enabled('any', true, 'actor')"
            .to_owned(),
        "SELECT integration_credentials.register_validator('any', NULL)".to_owned(),
        replaced("RETURN 'no'"),
        replaced("RETURN NULL"),
        format!("SAVEPOINT a; {}; RELEASE a", replaced("RETURN 'no'")),
        "ALTER FUNCTION app.check(text) COST 7".to_owned(),
        "DROP FUNCTION app.check(text); CREATE FUNCTION app.check(value text) RETURNS text LANGUAGE sql RETURN 'no'".to_owned()
            + &format!("; ALTER FUNCTION app.check(text) OWNER TO {owner}"),
        format!("SET LOCAL ROLE {owner}; CREATE OR REPLACE FUNCTION {}; RESET ROLE", plpgsql(sync, "RAISE 'no'")),
    ] {
        let before = fixture.state().await;
        superuser.batch_execute(&format!("BEGIN; {change}")).await.unwrap_or_else(|e| panic!("{change}: {e:?}"));
        let error = assert_error(set_sealed(superuser, ANY, &sealed).await, ErrorCode::InvalidRequest);
        assert!(error.message().contains("this transaction has changed"), "{change}: {error:?}");
        canary.assert_absent(&error);
        superuser.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(fixture.state().await, before, "{change}");
    }
    // What is taken back within the transaction, and what is of another key, is no obstacle; nor is what was committed.
    for change in [
        format!("SAVEPOINT a; {}; ROLLBACK TO a", registered(wrong)),
        "SELECT integration_credentials.admin_register_integration('other', 'other', 'actor')".to_owned(),
    ] {
        superuser.batch_execute(&format!("BEGIN; {change}")).await.unwrap();
        set_sealed(superuser, ANY, &sealed).await.unwrap();
        superuser.batch_execute("COMMIT").await.unwrap();
    }
    register(superuser, ANY, json!({"prefix": "no-"})).await.unwrap();
    assert_error(set_sealed(superuser, ANY, &sealed).await, ErrorCode::InvalidCredentials);
    register(superuser, ANY, json!({})).await.unwrap();
    set_sealed(superuser, ANY, &sealed).await.unwrap();
    assert_eq!(get(&database.connect(READER).await, ANY).await.unwrap(), canary.as_str());
}

/// A standby knows the keyring, too; who sets is the primary.
#[tokio::test]
async fn a_value_is_sealed_by_what_a_standby_says() {
    let primary = Cluster::private();
    let database = primary.database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    let standby = primary.standby();
    let to = SealTo::ask(&standby.named_database(database.name()).connect(ADMIN).await).await;
    set_sealed(&admin, ANY, &to.seal(ANY, "value")).await.unwrap();
}

/// The recipe of docs/sealing.md, as it stands there, run by Python with `pyhpke`.
#[tokio::test]
async fn recipe_of_the_document_seals() {
    let document = include_str!("../../../docs/sealing.md");
    let recipe =
        document.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a recipe");
    let python = python_with_pyhpke().await;
    let database = Cluster::shared().database().await;
    database.set_org("Grüße 😀").await;
    let admin = database.connect(ADMIN).await;
    for (key, value) in [(ANY, "hunter2"), ("schlüssel", "Zoë's 😀\n")] {
        register(&admin, key, json!({})).await.unwrap();
        let answer: Value =
            admin.query_one("SELECT integration_credentials.sealing_key()", &[]).await.unwrap().get(0);
        let program = format!(
            "{recipe}\nimport json, sys\nrequest = json.load(sys.stdin)\nprint(seal(*request).hex())"
        );
        let request = json!([answer, key, value]).to_string();
        let printed =
            run(tokio::process::Command::new(&python).arg("-c").arg(&program), request.as_bytes()).await;
        let sealed: Vec<u8> = printed
            .success()
            .trim()
            .as_bytes()
            .chunks(2)
            .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
            .collect();
        set_sealed(&admin, key, &sealed).await.unwrap();
        assert_eq!(get(&database.connect(READER).await, key).await.unwrap(), value);
    }
}

/// A Python with `pyhpke`, made once, below `target`: that needs neither root nor anything but Python, and `PyPI`.
async fn python_with_pyhpke() -> PathBuf {
    const PYHPKE: &str = "pyhpke==0.6.5";
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join(PYHPKE.replace("==", "-"));
    let python = venv.join("bin/python");
    let has_it = async || {
        let import = tokio::process::Command::new(&python).args(["-c", "import pyhpke"]).output().await;
        import.is_ok_and(|output| output.status.success())
    };
    // The registry may have a bad moment.
    for _ in 0..3 {
        if has_it().await {
            return python;
        }
        let mut make = tokio::process::Command::new("python3");
        let _ = run(make.args(["-m", "venv", "--clear"]).arg(&venv), b"").await.success();
        let mut install = tokio::process::Command::new(&python);
        let quiet = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"];
        install.args(quiet).arg(PYHPKE).status().await.unwrap();
    }
    assert!(has_it().await, "pip has not installed {PYHPKE}");
    python
}

#[tokio::test]
async fn old_keys_still_open_and_retired_ones_are_named() {
    let mut cluster = Cluster::private();
    let database = cluster.database().await;
    database.set_org("acme").await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    let old = SealTo::ask(&admin).await;
    let sealed = old.seal(ANY, "value");
    let mut keyring = Keyring::parse(&cluster.keyring()).unwrap();
    let new = keyring.add_key().unwrap().to_owned();
    keyring.use_key(&new).unwrap();
    fs::write(cluster.keyring_file(), keyring.to_document().unwrap().as_bytes()).unwrap();
    let later = database.connect(ADMIN).await;
    assert_ne!(SealTo::ask(&later).await.key, old.key);
    set_sealed(&later, ANY, &sealed).await.unwrap();

    cluster.stop(Shutdown::Fast);
    let retired = Keyring::generate().unwrap().to_document().unwrap();
    fs::write(cluster.keyring_file(), retired.as_bytes()).unwrap();
    cluster.start();
    let admin = database.connect(ADMIN).await;
    let error = assert_error(set_sealed(&admin, ANY, &sealed).await, ErrorCode::InvalidRequest);
    assert!(error.message().contains(&old.key.id), "{error:?}");
    assert_eq!(revision(&admin, ANY).await, 1);
}

/// Everything that can be turned on, and nothing is seen: what SQL has is sealed.
#[tokio::test]
async fn with_logging_at_its_loudest_a_sealed_value_is_nowhere() {
    let mut cluster = Cluster::builder()
        .preload("auto_explain")
        .preload("pg_stat_statements")
        .setting("log_statement", "all")
        .setting("log_min_duration_statement", "0")
        .setting("log_min_messages", "debug5")
        .setting("log_parameter_max_length_on_error", "-1")
        .setting("debug_print_parse", "on")
        .setting("debug_print_plan", "on")
        .setting("debug_print_rewritten", "on")
        .setting("auto_explain.log_min_duration", "0")
        .setting("auto_explain.log_nested_statements", "on")
        .setting("auto_explain.log_verbose", "on")
        .setting("pg_stat_statements.track", "all")
        .start();
    let database = cluster.database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    let (sealed, shown) = (Canary::new(), Canary::new());
    let dsn = database.dsn(ADMIN);
    for (arguments, value) in [(&["set", ANY][..], &sealed), (&["set", "trustradius"], &sealed)] {
        let set = run(intcred().args(["--dsn", &dsn]).args(arguments), value.as_str().as_bytes()).await;
        sealed.assert_absent(&set);
        assert_eq!(set.code, 0, "{set:?}");
    }
    for key in ["slack", "nowhere"] {
        let set = run(intcred().args(["--dsn", &dsn, "set", key]), sealed.as_str().as_bytes()).await;
        assert_eq!(set.code, 1, "{set:?}");
        sealed.assert_absent(&set);
    }
    // So that finding nothing means something: the parameter of another statement is seen.
    admin.query_one("SELECT $1::text", &[&shown.as_str()]).await.unwrap();
    cluster.stop(Shutdown::Fast);
    assert_eq!(sealed.search(&cluster.data_dir()), []);
    assert!(!shown.search(&cluster.data_dir()).is_empty());
}
