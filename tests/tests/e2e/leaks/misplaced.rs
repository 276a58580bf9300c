//! A value in a wrong place of the calls of a rotation: in the name of an option, in an option, in another
//! argument. Each call fails, so that these are no rows of the matrix.

use super::{
    evidence::{Channel, Evidence},
    server::{self, Order},
    views::Views,
};
use tests::{Canary, Session, Shutdown};
use tokio_postgres::{Error, error::SqlState, types::Type};

/// What is wrong, the call with `{}` for the value, and how it ends.
type Case = (&'static str, &'static str, &'static str);

/// Calls that take a plain value, and are hidden as a whole.
const HIDDEN: &[Case] = &[
    ("name of an option", "set('any', 'x', 'actor', jsonb_build_object({}, true))", "IC001"),
    ("expiresAt", "set('any', 'x', 'actor', jsonb_build_object('expiresAt', {}))", "IC001"),
    ("keepPrevious", "set('any', 'x', 'actor', jsonb_build_object('keepPrevious', {}))", "IC001"),
    ("expectedRevision", "set('any', 'x', 'actor', jsonb_build_object('expectedRevision', {}))", "IC001"),
    ("options", "set('any', 'x', 'actor', to_jsonb({}))", "IC001"),
    ("options that are no JSON", "set('any', 'x', 'actor', {}::jsonb)", "22P02"),
    ("key of a set with options", "set({}, 'x', 'actor', '{\"stage\": true}')", "IC004"),
];

/// Calls that take no plain value. Postgres logs their statements, where it is told to log statements. No
/// refusal and no row repeats the value.
const PLAIN: &[Case] = &[
    ("sealed, as it is", "set_sealed('any', convert_to({}, 'UTF8'), 'actor', '{}')", "IC001"),
    ("key of promote", "promote({}, 'actor')", "IC004"),
    ("key of discard", "discard({}, 'actor')", "IC004"),
    ("key of rollback", "rollback({}, 'actor')", "IC004"),
    ("key of retire", "retire({}, 'actor')", "IC004"),
    ("key of keep-previous", "keep({}, '1 day', 'actor')", "IC004"),
    ("which", "get('any', {})", "IC001"),
    ("find, as it is", "find(convert_to({}, 'UTF8'), 'actor')", "IC001"),
    ("held", "report('00000000-0000-4000-8000-000000000000', 'web', to_jsonb({}), '1 min')", "IC001"),
    (
        "revisions of held",
        "report('00000000-0000-4000-8000-000000000000', 'web', jsonb_build_object('any', {}), '1 min')",
        "IC001",
    ),
    (
        "name of a consumer whose lease is refused",
        "report('00000000-0000-4000-8000-000000000000', {}, '{}', '1 year')",
        "IC001",
    ),
];

/// The functions, by their short names above.
const FUNCTIONS: [(&str, &str); 10] = [
    ("set(", "admin_set_integration_credentials("),
    ("set_sealed(", "admin_set_integration_credentials_sealed("),
    ("promote(", "admin_promote_integration_credentials("),
    ("discard(", "admin_discard_integration_credentials("),
    ("rollback(", "admin_rollback_integration_credentials("),
    ("retire(", "admin_retire_integration_credentials("),
    ("get(", "get_integration_credentials("),
    ("find(", "find_integration_credentials("),
    ("report(", "report_held_revisions("),
    ("keep(", "admin_set_integration_keep_previous("),
];

#[tokio::test]
async fn value_in_a_wrong_place_is_nowhere() {
    let (mut cluster, database) = server::start(Order::OursLast).await;
    let operator = database.superuser().await;
    let role =
        "CREATE ROLE careless LOGIN IN ROLE integration_credentials_admin, integration_credentials_reader";
    operator.batch_execute(role).await.unwrap();
    let evidence = Evidence::default();
    let session = database.connect("careless").await;
    let mut secrets = Vec::new();
    for (name, call, sqlstate) in HIDDEN {
        for (form, canary, error) in misplaced(&session, call, sqlstate).await {
            evidence.add(Channel::Messages, format!("{error:?}"));
            secrets.push((format!("{name}, {form}"), canary));
        }
    }
    let mut refusals = Vec::new();
    for (name, call, sqlstate) in PLAIN {
        for (form, canary, error) in misplaced(&session, call, sqlstate).await {
            let error = error.as_db_error().expect("a refusal");
            // Its CONTEXT is Postgres', and has parameters where the server is told so.
            canary.assert_absent(&(name, form, error.message(), error.detail(), error.hint()));
            refusals.push((format!("{name}, {form}"), canary));
        }
    }
    Views::new(&operator, &evidence).await.look(Channel::After).await;
    let rows = "SELECT coalesce(string_agg(row::text, ' '), '') FROM (
        SELECT to_jsonb(c) AS row FROM integration_credentials.configured_integrations c
        UNION ALL SELECT to_jsonb(l) FROM integration_credentials.consumers l
        UNION ALL SELECT to_jsonb(a) FROM integration_credentials.webapp_org_admin_audit_log a
        UNION ALL SELECT to_jsonb(m) FROM integration_credentials.tool_metering m) r";
    let rows: String = operator.query_one(rows, &[]).await.unwrap().get(0);
    for (name, canary) in &refusals {
        canary.assert_absent(&(name, &rows));
    }
    drop(session);
    cluster.stop(Shutdown::Fast);
    evidence.add_files(&cluster);
    let leaks = evidence.search(&secrets.iter().map(|(_, canary)| canary).collect::<Vec<_>>());
    let leaks: Vec<_> =
        leaks.iter().map(|leak| (&secrets[leak.cell].0, leak.channel, &leak.excerpt)).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}

/// Makes a call that fails, with a secret as a literal and as a parameter.
async fn misplaced(session: &Session, call: &str, sqlstate: &str) -> Vec<(&'static str, Canary, Error)> {
    let (short, function) = FUNCTIONS.iter().find(|(short, _)| call.starts_with(short)).unwrap();
    let sql = format!("SELECT integration_credentials.{function}{}", &call[short.len()..]);
    let mut failed = Vec::new();
    for form in ["literal", "parameter"] {
        let canary = Canary::new();
        // The first `{}`: others are empty JSON.
        let ended = if form == "literal" {
            session.simple_query(&sql.replacen("{}", &format!("'{canary}'::text"), 1)).await.map(drop)
        } else {
            let parameter = canary.as_str();
            session.query_typed(&sql.replacen("{}", "$1", 1), &[(&parameter, Type::TEXT)]).await.map(drop)
        };
        let error = ended.expect_err(call);
        assert_eq!(error.code().map(SqlState::code), Some(sqlstate), "{call}: {error:?}");
        failed.push((form, canary, error));
    }
    failed
}
