//! Creating, dropping and loading the extension.

use crate::helpers::calls::{count, get, set};
use integration_credentials_core::error::ErrorCode;
use tests::{ADMIN, Cluster, READER, assert_error};

#[tokio::test]
async fn dropped_and_created_again_it_works_also_in_a_session_that_had_plans() {
    let database = Cluster::shared().database().await;
    let superuser = database.superuser().await;
    let (admin, reader) = (database.connect(ADMIN).await, database.connect(READER).await);
    set(&admin, "trustradius", "before-drop").await.unwrap();
    assert_eq!(get(&reader, "trustradius").await.unwrap(), "before-drop");
    superuser.batch_execute("DROP EXTENSION integration_credentials").await.unwrap();
    let gone = "SELECT count(*) FROM pg_namespace WHERE nspname = 'integration_credentials'";
    assert_eq!(superuser.query_one(gone, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(set(&admin, "trustradius", "while-gone").await.unwrap_err().code().unwrap().code(), "3F000");

    let again = concat!("CREATE EXTENSION integration_credentials;", include_str!("../../../sql/roles.sql"));
    superuser.batch_execute(again).await.unwrap();
    set(&admin, "trustradius", "after-create").await.unwrap();
    assert_eq!(get(&reader, "trustradius").await.unwrap(), "after-create");
}

#[tokio::test]
async fn a_session_that_takes_a_new_installation_back_goes_on_with_the_old_one() {
    let database = Cluster::shared().database().await;
    let superuser = database.superuser().await;
    set(&superuser, "trustradius", "old-value").await.unwrap();
    superuser
        .batch_execute(
            "BEGIN; DROP EXTENSION integration_credentials; CREATE EXTENSION integration_credentials",
        )
        .await
        .unwrap();
    set(&superuser, "trustradius", "new-value").await.unwrap();
    assert_eq!(get(&superuser, "trustradius").await.unwrap(), "new-value");
    superuser.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(get(&superuser, "trustradius").await.unwrap(), "old-value");
    set(&superuser, "trustradius", "newer-value").await.unwrap();
    assert_eq!(count(&superuser, "webapp_org_admin_audit_log").await, 2);
}

#[tokio::test]
async fn comments_say_what_each_object_is() {
    let superuser = Cluster::shared().database().await.superuser().await;
    // A sequence belongs to a column, and a row type to a table.
    let objects = "
        SELECT pg_describe_object(d.classid, d.objid, 0), obj_description(d.objid, d.classid::regclass::name)
        FROM pg_depend d
        JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
        LEFT JOIN pg_class c ON c.oid = d.objid AND d.classid = 'pg_class'::regclass
        WHERE e.extname = 'integration_credentials' AND d.deptype = 'e'
            AND d.classid <> 'pg_type'::regclass AND c.relkind IS DISTINCT FROM 'S'";
    let objects = superuser.query(objects, &[]).await.unwrap();
    assert!(objects.len() > 25, "{}", objects.len());
    for object in objects {
        let (name, comment) = (object.get::<_, &str>(0), object.get::<_, Option<&str>>(1));
        assert!(
            comment.is_some_and(|comment| comment.ends_with('.') && comment.len() <= 110),
            "{name}: {comment:?}"
        );
    }
}

#[tokio::test]
async fn a_schema_that_somebody_made_beforehand_stops_the_installation() {
    let database = Cluster::shared().empty_database().await;
    let superuser = database.superuser().await;
    superuser.batch_execute("CREATE SCHEMA integration_credentials").await.unwrap();
    let error = superuser.batch_execute("CREATE EXTENSION integration_credentials").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42P06", "{error:?}");
}

#[tokio::test]
async fn extension_does_not_depend_on_the_schema_public() {
    let cluster = Cluster::shared();
    let (database, bare) = (cluster.database().await, cluster.empty_database().await);
    set(&database.connect(ADMIN).await, "trustradius", "some-value").await.unwrap();
    database.superuser().await.batch_execute("DROP SCHEMA public CASCADE").await.unwrap();
    assert_eq!(get(&database.connect(READER).await, "trustradius").await.unwrap(), "some-value");
    let create = "DROP SCHEMA public; CREATE EXTENSION integration_credentials";
    bare.superuser().await.batch_execute(create).await.unwrap();
}

#[tokio::test]
async fn only_a_superuser_installs_it() {
    let database = Cluster::shared().empty_database().await;
    // Makes the login roles, should no other test have done so.
    Cluster::shared().database().await;
    let superuser = database.superuser().await;
    let grant = format!("GRANT CREATE ON DATABASE {} TO {ADMIN}", database.name());
    superuser.batch_execute(&grant).await.unwrap();
    let admin = database.connect(ADMIN).await;
    let error = admin.batch_execute("CREATE EXTENSION integration_credentials").await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42501", "{error:?}");
}

#[tokio::test]
async fn without_preload_everything_fails_closed_and_the_org_cannot_be_forged() {
    let cluster = Cluster::builder().without_preload().start();
    let database = cluster.database().await;
    let admin = database.connect(ADMIN).await;
    // A name that nobody has defined is anybody's to set; it must not count.
    admin.batch_execute("SET integration_credentials.org_slug = 'victim'").await.unwrap();
    let set = set(&admin, "trustradius", "some-value").await;
    let error = assert_error(set, ErrorCode::EncryptionUnavailable);
    assert!(error.hint().unwrap().contains("shared_preload_libraries"), "{error:?}");
    let list = admin.query("SELECT * FROM integration_credentials.list_integrations()", &[]).await;
    assert_error(list, ErrorCode::EncryptionUnavailable);
    let auditor = database.connect(tests::AUDITOR).await;
    let audit = auditor.query("SELECT * FROM integration_credentials.audit_log", &[]).await;
    assert_error(audit, ErrorCode::EncryptionUnavailable);
    let reader = database.connect(READER).await;
    assert_error(get(&reader, "trustradius").await, ErrorCode::EncryptionUnavailable);
}

#[tokio::test]
async fn version_of_the_library_is_a_setting_that_nobody_changes() {
    let database = Cluster::shared().database().await;
    let superuser = database.superuser().await;
    let versions = "SELECT current_setting('integration_credentials.version'), default_version
                    FROM pg_available_extensions WHERE name = 'integration_credentials'";
    let row = superuser.query_one(versions, &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), row.get::<_, &str>(1));
    let set = superuser.batch_execute("SET integration_credentials.version = '9'").await.unwrap_err();
    assert_eq!(set.code().unwrap().code(), "55P02", "{set:?}");
}
