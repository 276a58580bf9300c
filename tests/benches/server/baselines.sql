-- What people write by hand, as well as it can be done: the same job in plaintext, with the same rows, indexes and
-- rights. The letters are those of the report.
--
-- Run as a superuser, in the database that has the extension; sql/roles.sql has made the group roles.

CREATE EXTENSION pgcrypto;
CREATE SCHEMA plain;

CREATE TABLE plain.catalog (
    key          text    PRIMARY KEY,
    display_name text    NOT NULL,
    is_enabled   boolean NOT NULL DEFAULT true,
    pattern      text    NOT NULL
);

CREATE TABLE plain.credentials (
    org        text        NOT NULL,
    key        text        NOT NULL,
    value      text        NOT NULL,
    revision   bigint      NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (org, key)
) WITH (fillfactor = 70);

-- For (d), whose value is a ciphertext.
CREATE TABLE plain.encrypted (
    org        text        NOT NULL,
    key        text        NOT NULL,
    value      bytea       NOT NULL,
    revision   bigint      NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (org, key)
) WITH (fillfactor = 70);
CREATE TABLE plain.keyring (passphrase text NOT NULL);
INSERT INTO plain.keyring VALUES (encode(gen_random_bytes(32), 'base64'));

CREATE TABLE plain.audit (
    id           bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org          text        NOT NULL,
    actor        text        NOT NULL,
    session_role text        NOT NULL,
    action       text        NOT NULL,
    target_type  text        NOT NULL,
    target_id    text        NOT NULL,
    metadata     jsonb       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON plain.audit (org, id);

CREATE TABLE plain.metering (
    id          bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org         text             NOT NULL,
    tool        text             NOT NULL,
    actor       text             NOT NULL,
    outcome     text             NOT NULL,
    duration_ms double precision NOT NULL,
    metadata    jsonb            NOT NULL,
    created_at  timestamptz      NOT NULL DEFAULT clock_timestamp()
);

-- (b) and (f): one table, one key.
CREATE TABLE plain.simple (key text PRIMARY KEY, value text NOT NULL) WITH (fillfactor = 70);

-- (c)
CREATE FUNCTION plain.set_credential(p_key text, p_value text, p_actor text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    began      constant timestamptz := clock_timestamp();
    own_org    constant text := current_setting('plain.org');
    entry      record;
    saved      record;
BEGIN
    SELECT is_enabled, pattern INTO entry FROM plain.catalog WHERE key = p_key;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such integration' USING ERRCODE = 'IC004';
    ELSIF NOT entry.is_enabled THEN
        RAISE EXCEPTION 'the integration is disabled' USING ERRCODE = 'IC002';
    ELSIF p_value !~ entry.pattern THEN
        RAISE EXCEPTION 'the value has not the form that the integration asks for' USING ERRCODE = 'IC003';
    END IF;

    INSERT INTO plain.credentials AS c (org, key, value) VALUES (own_org, p_key, p_value)
        ON CONFLICT (org, key) DO UPDATE
            SET value = excluded.value, revision = c.revision + 1, updated_at = clock_timestamp()
        RETURNING revision, xmax <> '0' AS was_update, updated_at INTO saved;

    PERFORM pg_notify('plain', json_build_object(
        'v', 1, 'org', own_org, 'key', p_key, 'revision', saved.revision, 'op', 'set')::text);
    INSERT INTO plain.audit (org, actor, session_role, action, target_type, target_id, metadata)
        VALUES (own_org, p_actor, session_user, 'set_credential', 'integration', p_key,
                jsonb_build_object('wasUpdate', saved.was_update));
    INSERT INTO plain.metering (org, tool, actor, outcome, duration_ms, metadata)
        VALUES (own_org, 'set_credential', p_actor, 'ok', extract(epoch FROM clock_timestamp() - began) * 1000,
                jsonb_build_object('parameters',
                                   jsonb_build_object('key', p_key, 'value', '<redacted>', 'actor', p_actor)));
    RETURN jsonb_build_object(
        'key', p_key, 'isConfigured', true, 'hasCredentials', true,
        'updatedAt', to_char(saved.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'));
END
$$;

-- (d): options are those of pgp_sym_encrypt. With none, pgcrypto stretches the passphrase by 65536 rounds of hashing
-- or more; 's2k-mode=1' leaves that out, as may be done where the passphrase is a random key.
CREATE FUNCTION plain.set_encrypted(p_key text, p_value text, p_actor text, options text) RETURNS jsonb
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    began      constant timestamptz := clock_timestamp();
    own_org    constant text := current_setting('plain.org');
    entry      record;
    saved      record;
BEGIN
    SELECT is_enabled, pattern INTO entry FROM plain.catalog WHERE key = p_key;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such integration' USING ERRCODE = 'IC004';
    ELSIF NOT entry.is_enabled THEN
        RAISE EXCEPTION 'the integration is disabled' USING ERRCODE = 'IC002';
    ELSIF p_value !~ entry.pattern THEN
        RAISE EXCEPTION 'the value has not the form that the integration asks for' USING ERRCODE = 'IC003';
    END IF;

    INSERT INTO plain.encrypted AS c (org, key, value)
        VALUES (own_org, p_key,
                public.pgp_sym_encrypt(p_value, (SELECT passphrase FROM plain.keyring), options))
        ON CONFLICT (org, key) DO UPDATE
            SET value = excluded.value, revision = c.revision + 1, updated_at = clock_timestamp()
        RETURNING revision, xmax <> '0' AS was_update, updated_at INTO saved;

    PERFORM pg_notify('plain', json_build_object(
        'v', 1, 'org', own_org, 'key', p_key, 'revision', saved.revision, 'op', 'set')::text);
    INSERT INTO plain.audit (org, actor, session_role, action, target_type, target_id, metadata)
        VALUES (own_org, p_actor, session_user, 'set_credential', 'integration', p_key,
                jsonb_build_object('wasUpdate', saved.was_update));
    INSERT INTO plain.metering (org, tool, actor, outcome, duration_ms, metadata)
        VALUES (own_org, 'set_credential', p_actor, 'ok', extract(epoch FROM clock_timestamp() - began) * 1000,
                jsonb_build_object('parameters',
                                   jsonb_build_object('key', p_key, 'value', '<redacted>', 'actor', p_actor)));
    RETURN jsonb_build_object(
        'key', p_key, 'isConfigured', true, 'hasCredentials', true,
        'updatedAt', to_char(saved.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'));
END
$$;

-- The read of (c).
CREATE FUNCTION plain.get_credential(p_key text) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    found_row record;
BEGIN
    SELECT k.is_enabled, c.value INTO found_row
        FROM plain.catalog k
        LEFT JOIN plain.credentials c ON c.key = k.key AND c.org = current_setting('plain.org')
        WHERE k.key = p_key;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such integration' USING ERRCODE = 'IC004';
    ELSIF NOT found_row.is_enabled THEN
        RAISE EXCEPTION 'the integration is disabled' USING ERRCODE = 'IC002';
    ELSIF found_row.value IS NULL THEN
        RAISE EXCEPTION 'there is no credential' USING ERRCODE = 'IC005';
    END IF;
    RETURN found_row.value;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA plain FROM PUBLIC;
GRANT USAGE ON SCHEMA plain TO integration_credentials_admin, integration_credentials_reader;
GRANT EXECUTE ON FUNCTION plain.set_credential, plain.set_encrypted TO integration_credentials_admin;
GRANT EXECUTE ON FUNCTION plain.get_credential TO integration_credentials_reader;
GRANT SELECT ON plain.catalog, plain.credentials, plain.simple TO integration_credentials_reader;
-- (b) and (e) are written by clients.
GRANT SELECT, INSERT, UPDATE ON plain.catalog, plain.credentials, plain.simple, plain.audit, plain.metering
    TO integration_credentials_admin;
