//! A server with everything turned on that shows statements or parameters.

use super::outcomes::{FILLER, REFUSED};
use crate::helpers::calls::{ANY, register};
use base64::{Engine, engine::general_purpose::STANDARD};
use integration_credentials_core::seal::SealingKey;
use serde_json::{Value, json};
use tests::installation::{Installation, PGAUDIT, contrib};
use tests::{Builder, Cluster, Database, SUPERUSER};

/// Whose hooks run first: those of the library that is loaded last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    OursLast,
    OursFirst,
}

const LOUD: &[(&str, &str)] = &[
    ("fsync", "off"),
    // The calls of a column are made at the same time.
    ("max_connections", "250"),
    ("logging_collector", "on"),
    ("log_destination", "stderr,csvlog,jsonlog"),
    ("log_filename", "server.log"),
    ("log_min_messages", "debug5"),
    ("log_min_error_statement", "debug5"),
    ("log_error_verbosity", "verbose"),
    ("log_statement", "all"),
    ("log_duration", "on"),
    ("log_connections", "on"),
    ("log_disconnections", "on"),
    ("log_min_duration_statement", "0"),
    ("log_parameter_max_length", "-1"),
    ("log_parameter_max_length_on_error", "-1"),
    ("log_parser_stats", "on"),
    ("log_planner_stats", "on"),
    ("log_executor_stats", "on"),
    ("log_lock_waits", "on"),
    ("deadlock_timeout", "10ms"),
    ("log_temp_files", "0"),
    ("client_min_messages", "debug5"),
    ("debug_print_parse", "on"),
    ("debug_print_rewritten", "on"),
    ("debug_print_plan", "on"),
    ("track_functions", "all"),
    ("track_io_timing", "on"),
    ("auto_explain.log_min_duration", "0"),
    ("auto_explain.log_analyze", "on"),
    ("auto_explain.log_verbose", "on"),
    ("auto_explain.log_triggers", "on"),
    ("auto_explain.log_settings", "on"),
    ("auto_explain.log_nested_statements", "on"),
    ("pgaudit.log", "all"),
    ("pgaudit.log_catalog", "on"),
    ("pgaudit.log_client", "on"),
    ("pgaudit.log_level", "log"),
    ("pgaudit.log_parameter", "on"),
    ("pgaudit.log_relation", "on"),
    ("pgaudit.log_rows", "on"),
    ("pgaudit.log_statement_once", "off"),
    ("pg_stat_statements.track", "all"),
    ("pg_stat_statements.track_utility", "on"),
    ("pg_stat_statements.track_planning", "on"),
];

/// What there is since a major of Postgres.
const SINCE: &[(u32, (&str, &str))] = &[
    (17, ("summarize_wal", "on")),
    (17, ("trace_connection_negotiation", "on")),
    (18, ("log_connections", "all")),
    (18, ("log_lock_failures", "on")),
];

/// What differs with the order, so that both are seen.
const READABLE: &[(&str, &str)] = &[("debug_pretty_print", "on"), ("auto_explain.log_format", "text")];
const DENSE: &[(&str, &str)] = &[("debug_pretty_print", "off"), ("auto_explain.log_format", "json")];

/// Functions of somebody else: a validator that waits until the operator lets go; one that takes a value just as ours do,
/// and nobody hides it; and one that hands a value to ours.
const SCRIPT: &str = "
    CREATE EXTENSION pg_stat_statements;
    CREATE ROLE app;
    CREATE SCHEMA app AUTHORIZATION app;
    GRANT USAGE ON SCHEMA app TO PUBLIC;
    SET ROLE app;
    CREATE FUNCTION app.refuse(value text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock_shared(1);
        RETURN format('%s is not to my taste', value);
    END $$;
    CREATE TABLE app.kept (value text);
    CREATE FUNCTION app.keep(key text, value text, actor text) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
        PERFORM pg_advisory_xact_lock_shared(1);
        INSERT INTO app.kept VALUES (value);
        RETURN to_jsonb(value);
    END $$;
    CREATE FUNCTION app.wrap(key text, value text) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN
        RETURN integration_credentials.admin_set_integration_credentials(key, value, 'actor');
    END $$;
    RESET ROLE;";

/// Starts one, and makes a database in it.
pub async fn start(order: Order) -> (Cluster, Database) {
    start_in(order, &[]).await
}

/// The same, with languages that messages may be in.
pub async fn start_in(order: Order, languages: &[String]) -> (Cluster, Database) {
    let parts = [contrib("auto_explain"), contrib("pg_stat_statements"), PGAUDIT];
    let installation = Installation::find();
    let others: Vec<_> = parts.into_iter().filter(|part| installation.has(*part)).collect();
    let (preload, more): (fn(Builder, &str) -> Builder, _) = match order {
        Order::OursLast => (Builder::preload_before, READABLE),
        Order::OursFirst => (Builder::preload, DENSE),
    };
    let builder = others
        .iter()
        .fold(Cluster::builder().languages(languages), |builder, part| preload(builder, part.library));
    let since = SINCE.iter().filter(|(major, _)| *major <= installation.major());
    let settings = LOUD.iter().chain(since.map(|(_, setting)| setting)).chain(more);
    let cluster = settings.fold(builder, |builder, (name, value)| builder.setting(name, value)).start();
    cluster.named_database("postgres").superuser().await.batch_execute(&quiet()).await.unwrap();
    let database = cluster.database().await;
    let superuser = database.superuser().await;
    superuser.batch_execute(SCRIPT).await.unwrap();
    if is_audited() {
        superuser.batch_execute("CREATE EXTENSION pgaudit").await.unwrap();
    }
    for key in [ANY, REFUSED, FILLER] {
        register(&superuser, key, json!({})).await.unwrap();
    }
    let validator =
        format!("SELECT integration_credentials.register_validator('{REFUSED}', 'app.refuse(text)')");
    superuser.batch_execute(&validator).await.unwrap();
    (cluster, database)
}

/// Whether the server has pgaudit.
pub fn is_audited() -> bool {
    Installation::find().has(PGAUDIT)
}

/// The operator, who never has a secret, logs nothing: what the views are made of would fill the log.
fn quiet() -> String {
    let settings = [
        "log_min_messages = error",
        "client_min_messages = notice",
        "log_statement = none",
        "log_duration = off",
        "log_min_duration_statement = -1",
        "log_parser_stats = off",
        "log_planner_stats = off",
        "log_executor_stats = off",
        "debug_print_parse = off",
        "debug_print_rewritten = off",
        "debug_print_plan = off",
        "auto_explain.log_min_duration = -1",
        "pgaudit.log = none",
        "pg_stat_statements.track = none",
    ];
    settings.map(|setting| format!("ALTER ROLE {SUPERUSER} SET {setting};")).concat()
}

/// What to seal to, in any org.
pub async fn sealing_key(database: &Database) -> SealingKey {
    let superuser = database.superuser().await;
    let row = superuser.query_one("SELECT integration_credentials.sealing_key()", &[]).await.unwrap();
    let answer: Value = row.get(0);
    let public = STANDARD.decode(answer["publicKey"].as_str().unwrap()).unwrap();
    SealingKey { id: answer["keyId"].as_str().unwrap().to_owned(), public: public.try_into().unwrap() }
}
