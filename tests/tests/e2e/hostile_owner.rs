//! A database whose owner lies in wait for the superuser: with functions, operators, types and casts that stand before
//! Postgres' own on the `search_path`, or fit better. None of them is called, whatever of ours the superuser runs.

use crate::helpers::calls::{ANY, register, set};
use crate::helpers::fixture::sqlstate;
use serde_json::json;
use std::{fs, path::PathBuf};
use tests::{ADMIN, Cluster, Database, Output, SUPERUSER, installation::Installation, intcred, run};

/// Who has put everything in the way that the owner of a database can. A sequence counts the calls, for that outlives a
/// transaction that fails.
const TRAP: &str = r#"
    SET check_function_bodies = off;
    CREATE SEQUENCE public.calls;
    CREATE SCHEMA fake;
    CREATE FUNCTION public.sprung() RETURNS pg_catalog.void LANGUAGE plpgsql COST 0.0001 SET search_path = pg_catalog AS
        $$ BEGIN
            PERFORM nextval('public.calls');
            IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
                EXECUTE format('ALTER ROLE %I SUPERUSER', (SELECT rolname FROM pg_roles r JOIN pg_database d ON r.oid = d.datdba
                                                           WHERE datname = current_database()));
            END IF;
        END $$;
    DO $do$
    DECLARE it record; made int := 0;
    BEGIN
        -- Each function of Postgres', with the same arguments, as far as they can be declared.
        FOR it IN
            SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
            FROM pg_proc p
            WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND NOT proretset
              AND pg_get_function_identity_arguments(p.oid) !~ 'OUT|VARIADIC|internal|any|cstring|_handler|trigger|table_am|record'
              AND pg_get_function_result(p.oid) !~ 'internal|any|cstring|_handler|trigger|SETOF|record|TABLE'
        LOOP
            BEGIN
                EXECUTE format('CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql COST 0.0001 AS '
                               '''BEGIN PERFORM public.sprung(); RETURN NULL; END''', it.proname, it.arguments, it.result);
                made := made + 1;
            EXCEPTION WHEN OTHERS THEN NULL;
            END;
        END LOOP;
        -- Each operator of Postgres', and those that fit a constant better than an implicit cast does.
        FOR it IN
            SELECT oprname, l, r, 'bool' AS result
            FROM unnest(ARRAY['=', '<>', '<', '>', '<=', '>=', '~', '!~', '~~', '<<=', '@>']) AS oprname,
                 unnest(ARRAY['oid', 'int4', 'int8', 'text', 'name', '"char"', 'regrole', 'regclass', 'regproc', 'regprocedure',
                              'regnamespace', 'jsonb', 'text[]', 'oid[]', 'xid', 'inet', 'bool', 'aclitem']) AS l,
                 unnest(ARRAY['oid', 'int4', 'int8', 'text', 'name', '"char"', 'regrole', 'regclass', 'regproc', 'regprocedure',
                              'regnamespace', 'jsonb', 'text[]', 'oid[]', 'xid', 'inet', 'bool', 'aclitem']) AS r
            UNION ALL
            SELECT oprname, l, r, 'text'
            FROM unnest(ARRAY['||', '->', '->>', '+', '-']) AS oprname,
                 unnest(ARRAY['int4', 'int8', 'text', 'name', 'jsonb', 'text[]', 'regclass', 'regprocedure', 'regnamespace']) AS l,
                 unnest(ARRAY['int4', 'int8', 'text', 'name', 'jsonb', 'text[]', 'regclass', 'regprocedure', 'regnamespace']) AS r
        LOOP
            EXECUTE format('CREATE OR REPLACE FUNCTION public.op_%s(a %s, b %s) RETURNS %s LANGUAGE plpgsql COST 0.0001 AS '
                           '''BEGIN PERFORM public.sprung(); RETURN NULL; END''', it.result, it.l, it.r, it.result);
            EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.op_%s)',
                           it.oprname, it.l, it.r, it.result);
            made := made + 1;
        END LOOP;
        RAISE NOTICE 'made %', made;
        -- Types, whose constraints and casts are code.
        FOR it IN SELECT unnest(ARRAY['text', 'name', 'oid', 'jsonb', 'bytea', 'regclass', 'regrole', 'int4', 'timestamptz']) AS name LOOP
            EXECUTE format('CREATE DOMAIN public.%1$I AS pg_catalog.%1$I CHECK (public.sprung() IS NOT NULL)', it.name);
        END LOOP;
    END $do$;
    CREATE TYPE public.lure AS (x pg_catalog.int4);
    CREATE FUNCTION public.to_lure(a pg_catalog.int4) RETURNS public.lure LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.sprung(); RETURN NULL; END $$;
    CREATE FUNCTION public.from_lure(a public.lure) RETURNS pg_catalog.text LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.sprung(); RETURN NULL; END $$;
    CREATE CAST (pg_catalog.int4 AS public.lure) WITH FUNCTION public.to_lure(pg_catalog.int4) AS IMPLICIT;
    CREATE CAST (public.lure AS pg_catalog.text) WITH FUNCTION public.from_lure(public.lure) AS IMPLICIT;
    CREATE VIEW public.pg_roles AS SELECT * FROM pg_catalog.pg_roles WHERE public.sprung() IS NOT NULL;
    CREATE VIEW public.pg_proc AS SELECT * FROM pg_catalog.pg_proc WHERE public.sprung() IS NOT NULL;
    CREATE VIEW public.pg_namespace AS SELECT * FROM pg_catalog.pg_namespace WHERE public.sprung() IS NOT NULL;
    CREATE VIEW public.pg_settings AS SELECT * FROM pg_catalog.pg_settings WHERE public.sprung() IS NOT NULL;
    CREATE VIEW public.pg_extension AS SELECT * FROM pg_catalog.pg_extension WHERE public.sprung() IS NOT NULL;
    CREATE VIEW public.audit_log AS SELECT 1 AS id WHERE public.sprung() IS NOT NULL"#;

struct Hostile {
    cluster: &'static Cluster,
    database: Database,
    owner: String,
}

impl Hostile {
    /// A database with the trap. Sessions look into `public` first, as the owner may have it.
    async fn new() -> Self {
        let cluster = Cluster::shared();
        // Makes the login roles, should no other test have done so.
        cluster.database().await;
        let database = cluster.empty_database().await;
        let (name, owner) = (database.name(), format!("{}_owner", database.name()));
        let superuser = cluster.named_database("postgres").superuser().await;
        let give = format!("CREATE ROLE {owner} LOGIN; ALTER DATABASE {name} OWNER TO {owner}");
        superuser.batch_execute(&give).await.unwrap();
        let mut session = database.connect(&owner).await;
        session.batch_execute(TRAP).await.unwrap();
        let made = session.notices().iter().map(|notice| notice.message().to_owned()).collect::<Vec<_>>();
        let made: usize =
            made.iter().find_map(|text| text.strip_prefix("made ")?.parse().ok()).expect("a trap");
        assert!(made > 4_000, "{made}");
        let path = format!("ALTER DATABASE {name} SET search_path = public, pg_catalog");
        session.batch_execute(&path).await.unwrap();
        let hostile = Self { cluster, database, owner };
        hostile.assert_untouched("made").await;
        hostile
    }

    /// Nothing of the owner's was called, and the owner is no superuser.
    async fn assert_untouched(&self, after: &str) {
        // From another database, where nothing is in the way of this.
        let superuser = self.cluster.named_database("postgres").superuser().await;
        let power = "SELECT rolsuper FROM pg_roles WHERE rolname = $1";
        let is_superuser: bool = superuser.query_one(power, &[&self.owner]).await.unwrap().get(0);
        let owner = self.database.connect(&self.owner).await;
        let called: bool = owner.query_one("SELECT is_called FROM public.calls", &[]).await.unwrap().get(0);
        assert!(!called && !is_superuser, "{after}: called: {called}, superuser: {is_superuser}");
    }

    async fn psql(&self, arguments: &[&str]) -> Output {
        let mut psql = self.cluster.tool("psql");
        run(psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-d", self.database.name()]).args(arguments), b"").await
    }

    async fn intcred(&self, arguments: &[&str], stdin: &str) -> Output {
        let dsn = self.database.dsn(SUPERUSER);
        run(intcred().args(["--dsn", &dsn]).args(arguments), stdin.as_bytes()).await
    }
}

/// A file of the repository.
fn source(path: &str) -> String {
    format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"))
}

#[tokio::test]
async fn a_trap_springs_where_a_name_is_looked_up_by_the_search_path() {
    let hostile = Hostile::new().await;
    let session = hostile.database.connect(&hostile.owner).await;
    // So that finding nothing means something: each of these looks like ours, unpinned.
    for statement in [
        "SELECT FROM pg_catalog.pg_namespace WHERE nspowner NOT IN (0, 1)",
        "SELECT FROM pg_catalog.pg_class WHERE relname = 'pg_class'",
        "SELECT format('x'::pg_catalog.text)",
        "SELECT FROM pg_roles",
        "SELECT 'x'::text",
    ] {
        session.batch_execute("ALTER SEQUENCE public.calls RESTART").await.unwrap();
        let _ = session.batch_execute(statement).await;
        let called: bool = session.query_one("SELECT is_called FROM public.calls", &[]).await.unwrap().get(0);
        assert!(called, "{statement}");
    }
}

#[tokio::test]
async fn a_superuser_who_installs_and_grants_and_examines_calls_nothing_of_the_owners() {
    let hostile = Hostile::new().await;
    let name = hostile.database.name();
    let create = hostile.psql(&["-c", "CREATE EXTENSION integration_credentials"]).await;
    assert_eq!(create.code, 0, "{create:?}");
    hostile.assert_untouched("CREATE EXTENSION").await;
    for arguments in [&["-f"][..], &["-1", "-f"]] {
        let roles = hostile.psql(&[arguments, &[&source("sql/roles.sql")]].concat()).await;
        assert_eq!(roles.code, 0, "{roles:?}");
        hostile.assert_untouched("roles.sql").await;
    }
    for (arguments, stdin) in [
        (&["grant"][..], ""),
        (&["grant", ADMIN, "--to", "admin"], ""),
        (&["catalog", "add", ANY, "--actor", "a"], ""),
        (&["set", ANY, "--actor", "a"], "value"),
        (&["set", ANY, "--plain", "--actor", "a"], "value"),
        (&["get", ANY], ""),
        (&["list"], ""),
        (&["show", ANY], ""),
        (&["audit"], ""),
        (&["catalog", "list"], ""),
        (&["catalog", "disable", ANY, "--actor", "a"], ""),
        (&["catalog", "enable", ANY, "--actor", "a"], ""),
        (&["remove", ANY, "--actor", "a"], ""),
        (&["catalog", "remove", ANY, "--actor", "a"], ""),
        (&["set", "nowhere", "--actor", "a"], "value"),
    ] {
        let output = hostile.intcred(arguments, stdin).await;
        assert!(output.code < 2, "{arguments:?}: {output:?}");
        hostile.assert_untouched(&format!("{arguments:?}")).await;
    }
    for arguments in [&["doctor"][..], &["doctor", "--fix", "--yes"], &["doctor", "--json"]] {
        let output = hostile.intcred(arguments, "").await;
        assert!(output.stdout.contains("keyring") && output.code < 2, "{output:?}");
        hostile.assert_untouched(&format!("{arguments:?}")).await;
    }
    // What the installed functions run on behalf of those who are granted them.
    let (admin, superuser) = (hostile.database.connect(ADMIN).await, hostile.database.superuser().await);
    for session in [&admin, &superuser] {
        register(session, ANY, json!({"schema": {"type": "string"}})).await.unwrap();
        set(session, ANY, "\"value\"").await.unwrap();
    }
    let script = "SELECT integration_credentials.register_validator('any', NULL);
                  SELECT integration_credentials.register_sync_handler('any', NULL);
                  SELECT integration_credentials.list_integrations();
                  SELECT integration_credentials.get_all_integration_credentials();
                  SELECT id FROM integration_credentials.audit_log";
    superuser.batch_execute(script).await.unwrap();
    hostile.assert_untouched("calls").await;

    // A dump of it, restored by a superuser: into another database of such an owner.
    let archive = hostile.cluster.dir().join(format!("{name}.dump"));
    let mut pg_dump = hostile.cluster.tool("pg_dump");
    let dumped = run(
        pg_dump
            .args(["-Fc", "-n", "integration_credentials", "-e", "integration_credentials", "-f"])
            .arg(&archive)
            .arg(name),
        b"",
    )
    .await;
    assert_eq!((dumped.code, dumped.stderr.as_str()), (0, ""));
    hostile.assert_untouched("pg_dump").await;
    let other = Hostile::new().await;
    let mut pg_restore = hostile.cluster.tool("pg_restore");
    let restore = pg_restore.args(["-d", other.database.name()]).arg(&archive);
    let restored = run(restore, b"").await;
    assert_eq!((restored.code, restored.stderr.as_str()), (0, ""));
    other.assert_untouched("pg_restore").await;
    let entries = "SELECT pg_catalog.count(*) FROM integration_credentials.integration_catalog";
    assert_eq!(other.database.superuser().await.query_one(entries, &[]).await.unwrap().get::<_, i64>(0), 8);

    // And one of everything, whose owner's objects are restored along with it.
    let mut pg_dump = hostile.cluster.tool("pg_dump");
    let whole = run(pg_dump.args(["-Fc", "-f"]).arg(&archive).arg(name), b"").await;
    assert_eq!((whole.code, whole.stderr.as_str()), (0, ""));
    let target = hostile.cluster.empty_database().await;
    let mut pg_restore = hostile.cluster.tool("pg_restore");
    let restored = run(pg_restore.args(["-d", target.name()]).arg(&archive), b"").await;
    assert_eq!(restored.code, 0, "{restored:?}");
    let called = "SELECT is_called FROM public.calls";
    assert!(!target.superuser().await.query_one(called, &[]).await.unwrap().get::<_, bool>(0));
    hostile.assert_untouched("pg_restore of everything").await;
}

/// Temporary objects of the session that installs, too: a script that it ran before may have left some.
#[tokio::test]
async fn temporary_objects_do_not_stand_in_the_way_of_the_installation() {
    let database = Cluster::shared().empty_database().await;
    Cluster::shared().database().await;
    let superuser = database.superuser().await;
    let decoys = "
        CREATE TEMP TABLE calls (what text);
        CREATE FUNCTION pg_temp.sprung(anyelement) RETURNS text LANGUAGE sql AS
            $$ INSERT INTO pg_temp.calls VALUES ('sprung') RETURNING what $$;
        CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (VALUE = 'never');
        CREATE DOMAIN pg_temp.jsonb AS pg_catalog.jsonb CHECK (VALUE IS NULL);
        CREATE TEMP TABLE pg_roles (rolname name, rolsuper bool);
        CREATE TEMP TABLE pg_namespace (LIKE pg_catalog.pg_namespace);
        CREATE TEMP TABLE integration_catalog (integration_key pg_catalog.text)";
    superuser.batch_execute(decoys).await.unwrap();
    let install =
        concat!("CREATE EXTENSION integration_credentials;", include_str!("../../../sql/roles.sql"));
    superuser.batch_execute(install).await.unwrap();
    let temporary = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute a
                     JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                     WHERE c.relnamespace = 'integration_credentials'::pg_catalog.regnamespace
                       AND t.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace AND c.relkind = 'r'";
    assert_eq!(superuser.query_one(temporary, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(
        superuser
            .query_one("SELECT pg_catalog.count(*) FROM pg_temp.calls", &[])
            .await
            .unwrap()
            .get::<_, i64>(0),
        0
    );
    set(&database.connect(ADMIN).await, "trustradius", "some-value").await.unwrap();
}

/// What the scripts pin, they pin for themselves.
#[tokio::test]
async fn the_search_path_of_the_session_is_what_it_was_before() {
    let database = Cluster::shared().empty_database().await;
    let superuser = database.superuser().await;
    let path = async || -> String {
        superuser.query_one("SELECT pg_catalog.current_setting('search_path')", &[]).await.unwrap().get(0)
    };
    superuser.batch_execute("SET search_path = public, pg_temp").await.unwrap();
    superuser.batch_execute("CREATE EXTENSION integration_credentials").await.unwrap();
    assert_eq!(path().await, "public, pg_temp");
    superuser.batch_execute("BEGIN; DROP EXTENSION integration_credentials").await.unwrap();
    superuser.batch_execute("CREATE EXTENSION integration_credentials").await.unwrap();
    assert_eq!(path().await, "public, pg_temp");
    superuser.batch_execute("COMMIT").await.unwrap();
    superuser.batch_execute(include_str!("../../../sql/roles.sql")).await.unwrap();
    assert_eq!(path().await, "public, pg_temp");
}

/// The scripts that CREATE and ALTER EXTENSION run, those to come as well.
#[test]
fn every_script_of_the_extension_pins_its_search_path_first() {
    let scripts =
        fs::read_dir(Installation::find().extension_dir()).unwrap().map(|entry| entry.unwrap().path());
    let scripts: Vec<PathBuf> = scripts
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("integration_credentials--") && name.ends_with(".sql")
        })
        .collect();
    assert!(!scripts.is_empty());
    for path in scripts {
        let script = fs::read_to_string(&path).unwrap();
        let first = statements(&script).next().unwrap();
        assert_eq!(first, "SET LOCAL search_path = pg_catalog, pg_temp", "{}", path.display());
    }
    let roles = fs::read_to_string(source("sql/roles.sql")).unwrap();
    let first: Vec<_> = statements(&roles).take(2).collect();
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE";
    assert_eq!(first, [begin, "SET LOCAL search_path = pg_catalog, pg_temp"]);
}

/// A role that is set for the database does not hide a superuser from the check, for any function may leave that role.
#[tokio::test]
async fn a_role_set_for_the_database_hides_no_superuser_who_then_calls_nothing() {
    let cluster = Cluster::builder().start();
    let database = cluster.empty_database().await;
    let superuser = database.superuser().await;
    let name = database.name();
    superuser
        .batch_execute(&format!(
            "CREATE ROLE tenant LOGIN; ALTER DATABASE {name} OWNER TO tenant;
             CREATE TABLE public.called (by text); GRANT ALL ON public.called TO PUBLIC"
        ))
        .await
        .unwrap();
    let list = async || {
        let arguments = ["--dsn", &database.dsn(SUPERUSER), "list"];
        let output = run(intcred().args(arguments), b"").await;
        (output.code, output.stderr)
    };
    // With no schema at all, nothing is called either: the owner may make one at any moment.
    let (code, said) = list().await;
    assert!(code == 4 && said.contains("does not have the extension"), "{code} {said}");
    superuser
        .batch_execute(&format!(
            "SET ROLE tenant;
             CREATE SCHEMA integration_credentials;
             CREATE FUNCTION integration_credentials.list_integrations() RETURNS TABLE (
                 key text, \"displayName\" text, \"isEnabled\" boolean, \"isConfigured\" boolean,
                 \"hasCredentials\" boolean, revision bigint, \"updatedAt\" timestamptz)
                 LANGUAGE plpgsql AS $$ BEGIN
                     PERFORM pg_catalog.set_config('role', 'none', false);
                     INSERT INTO public.called VALUES (current_user);
                 END $$;
             RESET ROLE;
             ALTER DATABASE {name} SET role = 'tenant'"
        ))
        .await
        .unwrap();
    let (code, said) = list().await;
    assert!(code == 4 && said.contains("tenant"), "{code} {said}");
    let called = superuser.query_one("SELECT count(*) FROM public.called", &[]).await.unwrap();
    assert_eq!(called.get::<_, i64>(0), 0);
}

/// Split at each semicolon, without comments: enough for statements that have none in quotes.
fn statements(script: &str) -> impl Iterator<Item = String> {
    let mut text = String::new();
    let mut rest = script;
    while let Some((before, comment)) = rest.split_once("/*") {
        text += before;
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    text += rest;
    let lines = text.lines().map(|line| line.split("--").next().unwrap_or_default().trim());
    let text = lines.filter(|line| !line.is_empty() && !line.starts_with('\\')).collect::<Vec<_>>().join(" ");
    text.split(';').map(|statement| statement.trim().to_owned()).collect::<Vec<_>>().into_iter()
}

/// Where the extension is not, its name is anybody's who may create a schema: no command calls what stands there.
#[tokio::test]
async fn a_schema_that_only_has_the_extensions_name_is_not_called_by_a_superuser() {
    let hostile = Hostile::new().await;
    let owner = hostile.database.connect(&hostile.owner).await;
    let fake = "
        CREATE SCHEMA integration_credentials;
        CREATE FUNCTION integration_credentials.current_org() RETURNS pg_catalog.text IMMUTABLE LANGUAGE plpgsql
            AS $$ BEGIN PERFORM public.sprung(); RETURN 'acme'; END $$;
        CREATE FUNCTION integration_credentials.sealing_key() RETURNS pg_catalog.jsonb IMMUTABLE LANGUAGE plpgsql
            AS $$ BEGIN PERFORM public.sprung(); RETURN '{}'; END $$;
        CREATE FUNCTION integration_credentials.get_integration_credentials(key pg_catalog.text) RETURNS pg_catalog.text
            LANGUAGE plpgsql AS $$ BEGIN PERFORM public.sprung(); RETURN 'acme'; END $$;
        CREATE FUNCTION integration_credentials.list_integrations() RETURNS SETOF pg_catalog.record LANGUAGE plpgsql
            AS $$ BEGIN PERFORM public.sprung(); END $$;
        CREATE VIEW integration_credentials.audit_log AS SELECT 1 AS id WHERE public.sprung() IS NOT NULL";
    owner.batch_execute(fake).await.unwrap();
    for (arguments, stdin) in [
        (&["doctor"][..], ""),
        (&["grant"], ""),
        (&["list"], ""),
        (&["get", ANY], ""),
        (&["set", ANY, "--actor", "a"], "value"),
        (&["audit"], ""),
        (&["listen"], ""),
    ] {
        let output = hostile.intcred(arguments, stdin).await;
        assert!(
            output.code == 4 && output.stderr.contains("nothing was called"),
            "{arguments:?}: {output:?}"
        );
        assert!(output.stderr.contains(&hostile.owner), "{output:?}");
        hostile.assert_untouched(&format!("{arguments:?}")).await;
    }
    // CREATE EXTENSION does not go on either.
    let superuser = hostile.database.superuser().await;
    assert_eq!(sqlstate(superuser.batch_execute("CREATE EXTENSION integration_credentials").await), "42P06");
    hostile.assert_untouched("CREATE EXTENSION").await;
}
