//! A value in a wrong place of the calls of a rotation: in the name of an option, in an option, in another
//! argument. Each call fails, so that these are no rows of the matrix.

use super::{
    evidence::{Channel, Evidence},
    server::{self, Order},
    views::Views,
};
use tests::{Canary, Shutdown};
use tokio_postgres::types::Type;

/// What is wrong, the call with `{}` for the value, and how it ends.
const CALLS: &[(&str, &str, &str)] = &[
    ("name of an option", "set('any', 'x', 'actor', jsonb_build_object({}, true))", "IC001"),
    ("expiresAt", "set('any', 'x', 'actor', jsonb_build_object('expiresAt', {}))", "IC001"),
    ("keepPrevious", "set('any', 'x', 'actor', jsonb_build_object('keepPrevious', {}))", "IC001"),
    ("expectedRevision", "set('any', 'x', 'actor', jsonb_build_object('expectedRevision', {}))", "IC001"),
    ("options", "set('any', 'x', 'actor', to_jsonb({}))", "IC001"),
    ("options that are no JSON", "set('any', 'x', 'actor', {}::jsonb)", "22P02"),
    ("key of a set with options", "set({}, 'x', 'actor', '{\"stage\": true}')", "IC004"),
    ("sealed, as it is", "set_sealed('any', convert_to({}, 'UTF8'), 'actor', '{}')", "IC001"),
    ("key of promote", "promote({}, 'actor')", "IC004"),
    ("key of rollback", "rollback({}, 'actor')", "IC004"),
    ("key of retire", "retire({}, 'actor')", "IC004"),
    ("revision of promote", "promote('any', 'actor', {}::int8)", "22P02"),
    ("which", "get('any', {})", "IC001"),
    ("find, as it is", "find(convert_to({}, 'UTF8'), 'actor')", "IC001"),
    ("held", "report('00000000-0000-4000-8000-000000000000', 'web', to_jsonb({}), '1 min')", "IC001"),
    (
        "revisions of held",
        "report('00000000-0000-4000-8000-000000000000', 'web', jsonb_build_object('any', {}), '1 min')",
        "IC001",
    ),
    ("consumer", "report({}::uuid, 'web', '{}', '1 min')", "22P02"),
    (
        "name of a consumer, with a lease too long",
        "report('00000000-0000-4000-8000-000000000000', {}, '{}', '1 year')",
        "IC001",
    ),
    ("time to keep", "keep('any', {}::interval, 'actor')", "22007"),
];

/// The functions, by their short names above.
const FUNCTIONS: [(&str, &str); 9] = [
    ("set(", "admin_set_integration_credentials("),
    ("set_sealed(", "admin_set_integration_credentials_sealed("),
    ("promote(", "admin_promote_integration_credentials("),
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
    let views = Views::new(&operator, &evidence).await;
    let session = database.connect("careless").await;
    let mut secrets = Vec::new();
    for (name, call, sqlstate) in CALLS {
        let (short, function) = FUNCTIONS.iter().find(|(short, _)| call.starts_with(short)).unwrap();
        let sql = format!("SELECT integration_credentials.{function}{}", &call[short.len()..]);
        for form in ["literal", "parameter"] {
            let canary = Canary::new();
            // The first `{}`: others are empty JSON.
            let ended = if form == "literal" {
                session.simple_query(&sql.replacen("{}", &format!("'{canary}'::text"), 1)).await.map(drop)
            } else {
                let parameter = canary.as_str();
                let sql = sql.replacen("{}", "$1", 1);
                session.query_typed(&sql, &[(&parameter, Type::TEXT)]).await.map(drop)
            };
            let error = ended.expect_err(name);
            assert_eq!(
                error.code().map(tokio_postgres::error::SqlState::code),
                Some(*sqlstate),
                "{name}: {error:?}"
            );
            evidence.add(Channel::Messages, format!("{error:?}"));
            secrets.push((format!("{name}, {form}"), canary));
        }
    }
    views.look(Channel::After).await;
    drop(session);
    cluster.stop(Shutdown::Fast);
    evidence.add_files(&cluster);
    let leaks = evidence.search(&secrets.iter().map(|(_, canary)| canary).collect::<Vec<_>>());
    let leaks: Vec<_> =
        leaks.iter().map(|leak| (&secrets[leak.cell].0, leak.channel, &leak.excerpt)).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}
