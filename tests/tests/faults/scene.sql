-- What each key has been through, whoever changed it. Written by the transaction that made the change.
CREATE TABLE history (key text, word text, revision bigint);

CREATE FUNCTION write_credential() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.history
    VALUES (NEW.integration_key, CASE WHEN NEW.ciphertext IS NULL THEN 'removed' ELSE 'changed' END, NEW.revision);
    RETURN NULL;
END $$;
CREATE TRIGGER history AFTER INSERT OR UPDATE ON integration_credentials.configured_integrations
    FOR EACH ROW EXECUTE FUNCTION write_credential();

CREATE FUNCTION write_enabled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.history
    SELECT NEW.integration_key, CASE WHEN NEW.is_enabled THEN 'enabled' ELSE 'disabled' END, max(h.revision)
    FROM public.history h WHERE h.key = NEW.integration_key;
    RETURN NULL;
END $$;
CREATE TRIGGER history AFTER UPDATE OF is_enabled ON integration_credentials.integration_catalog
    FOR EACH ROW EXECUTE FUNCTION write_enabled();

-- Changes a key; a disabled one is enabled, for it may not be changed. A new value says of which key and revision it is.
-- Of two calls for one key the second waits, be it for a call whose client is long gone.
CREATE FUNCTION change(key text, operation text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    known record;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext(key));
    SELECT * INTO STRICT known FROM integration_credentials.list_integrations(ARRAY[key]);
    IF NOT known."isEnabled" THEN
        PERFORM integration_credentials.admin_set_integration_enabled(key, true, 'load');
    ELSIF operation = 'disable' THEN
        PERFORM integration_credentials.admin_set_integration_enabled(key, false, 'load');
    ELSIF operation = 'remove' AND known."hasCredentials" THEN
        PERFORM integration_credentials.admin_remove_integration_credentials(key, 'load');
    ELSE
        PERFORM integration_credentials.admin_set_integration_credentials(
            key, key || ' ' || known.revision + 1, 'load');
    END IF;
END $$;
