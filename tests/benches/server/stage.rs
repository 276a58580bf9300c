//! The cluster that everything is measured on, and databases with as much in them as a measurement asks for.

use tests::{ADMIN, Builder, Cluster, Database, Session};

/// How many integrations there are, unless a measurement says otherwise.
pub const KEYS: u32 = 10_000;

/// Everything belongs to one org.
const ORG: &str = "acme";

/// A cluster with Postgres' own defaults, fsync among them, but for what would favour one side by accident.
pub fn cluster(builder: Builder) -> Cluster {
    builder
        // 500 listeners, 64 clients, and some to spare.
        .setting("max_connections", "640")
        // What is measured fits into memory.
        .setting("shared_buffers", "1GB")
        // No checkpoint falls into the turn of one side, and no vacuum.
        .setting("checkpoint_timeout", "1h")
        .setting("max_wal_size", "16GB")
        .setting("autovacuum", "off")
        .start()
}

/// A database with the extension, the baselines, and `keys` integrations in both, none of which has a credential yet.
pub async fn database(cluster: &Cluster, keys: u32) -> Database {
    let database = cluster.database().await;
    database.set_org(ORG).await;
    let superuser = database.superuser().await;
    let org = format!("ALTER DATABASE {} SET plain.org = '{ORG}'", database.name());
    superuser.batch_execute(&org).await.expect("the org of the baselines");
    superuser.batch_execute(include_str!("baselines.sql")).await.expect("baselines.sql");
    // The catalog's triggers are there for dumps, and take most of the time of a bulk load.
    let catalogs = format!(
        "SET session_replication_role = replica;
         INSERT INTO integration_credentials.integration_catalog (integration_key, display_name, rules)
            SELECT n, 'Integration ' || n, '{{\"pattern\": \"tok_[A-Za-z0-9]+\"}}' FROM generate_series(1, {keys}) n;
         INSERT INTO plain.catalog (key, display_name, pattern)
            SELECT n, 'Integration ' || n, '^tok_[A-Za-z0-9]+$' FROM generate_series(1, {keys}) n"
    );
    superuser.batch_execute(&catalogs).await.expect("the catalogs are filled");
    database
}

/// Sets the first `keys` credentials on both sides. So each page has been written since the last checkpoint, and no
/// turn pays for the first write, which puts the whole page into WAL.
pub async fn fill(database: &Database, keys: u32) {
    let admin = database.connect(ADMIN).await;
    for function in ["integration_credentials.admin_set_integration_credentials", "plain.set_credential"] {
        let fill =
            format!("SELECT count({function}(n::text, $1, 'bench')) FROM generate_series(1, {keys}) n");
        admin.query_one(&fill, &[&value(64)]).await.expect("credentials are set");
    }
    let superuser = database.superuser().await;
    let others = format!(
        "INSERT INTO plain.simple SELECT n, repeat('x', 64) FROM generate_series(1, {keys}) n;
         INSERT INTO plain.encrypted (org, key, value)
            SELECT '{ORG}', n, repeat('x', 150)::bytea FROM generate_series(1, {keys}) n"
    );
    superuser.batch_execute(&others).await.expect("the other baselines are filled");
    settle(&superuser).await;
}

/// Adds rows for the keys from `first` to `last` that are as long as credentials, and that nobody reads: encrypting
/// each would take minutes.
pub async fn pad(database: &Database, first: u32, last: u32) {
    let superuser = database.superuser().await;
    let pad = format!(
        "INSERT INTO integration_credentials.configured_integrations (org_slug, integration_key, ciphertext)
            SELECT '{ORG}', n, repeat('x', 115)::bytea FROM generate_series({first}, {last}) n"
    );
    superuser.batch_execute(&pad).await.expect("rows are added");
    settle(&superuser).await;
}

/// Adds rows to what only grows: the audit log, and the metering beside it.
pub async fn age(database: &Database, rows: u32) {
    let superuser = database.superuser().await;
    let age = format!(
        "INSERT INTO integration_credentials.webapp_org_admin_audit_log
                (org_slug, actor, session_role, acting_role, action, target_type, target_id, metadata)
            SELECT '{ORG}', 'bench', '{ADMIN}', '{ADMIN}', 'set_integration_credentials', 'integration', n, '{{\"wasUpdate\": true}}'
            FROM generate_series(1, {rows}) n;
         INSERT INTO integration_credentials.tool_metering (org_slug, tool_key, actor, outcome, duration_ms, metadata)
            SELECT '{ORG}', 'admin_set_integration_credentials', 'bench', 'ok', 0.1,
                jsonb_build_object('parameters', jsonb_build_object('key', n, 'value', '<redacted>', 'actor', 'bench'))
            FROM generate_series(1, {rows}) n"
    );
    superuser.batch_execute(&age).await.expect("rows are added");
    settle(&superuser).await;
}

/// Has Postgres vacuum as it does by default, from now on.
pub async fn vacuum_from_now_on(cluster: &Cluster, database: &Database) {
    let superuser = database.superuser().await;
    superuser.batch_execute("ALTER SYSTEM SET autovacuum = on").await.expect("autovacuum is on");
    cluster.reload();
}

/// What autovacuum would do in the middle of a measurement.
async fn settle(superuser: &Session) {
    superuser.batch_execute("VACUUM ANALYZE").await.expect("VACUUM");
}

/// A value of that many bytes, which the rules accept.
pub fn value(bytes: usize) -> String {
    format!("tok_{}", "0123456789abcdef".repeat(bytes / 16 + 1))[..bytes].into()
}

/// Sessions that listen, and hear nothing: Postgres wakes each of them at every NOTIFY of the database, on whatever
/// channel.
pub async fn idle_listeners(database: &Database, count: u16) -> Vec<Session> {
    let mut listeners = Vec::new();
    for _ in 0..count {
        let session = database.connect(tests::OUTSIDER).await;
        session.batch_execute("LISTEN something_else").await.expect("LISTEN");
        listeners.push(session);
    }
    listeners
}
