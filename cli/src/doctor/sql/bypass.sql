-- Roles with an oid below 16384 are created by initdb.
WITH ability(role, words, fix) AS (
    SELECT oid, 'is a superuser', 'ALTER ROLE %s NOSUPERUSER;' FROM pg_roles WHERE rolsuper
    UNION ALL
    SELECT oid, 'may bypass row-level security', 'ALTER ROLE %s NOBYPASSRLS;' FROM pg_roles
    WHERE rolbypassrls AND NOT rolsuper
    UNION ALL
    SELECT oid, 'may copy the whole cluster, as a replica does', 'ALTER ROLE %s NOREPLICATION;' FROM pg_roles
    WHERE rolreplication AND NOT rolsuper
    UNION ALL
    -- Since 16, only a member of roles granted to it WITH ADMIN OPTION.
    SELECT oid, 'may make itself a member of any role', 'ALTER ROLE %s NOCREATEROLE;' FROM pg_roles
    WHERE rolcreaterole AND NOT rolsuper AND current_setting('server_version_num')::int4 < 160000
    UNION ALL
    SELECT r.oid, format('%s, as a member of %s', words, name), format('REVOKE %s FROM %%s;', name)
    FROM (VALUES ('pg_read_server_files', 'reads any file of the server'),
                 ('pg_write_server_files', 'writes any file of the server'),
                 ('pg_execute_server_program', 'runs programs as the server'),
                 ('pg_read_all_data', 'reads every table, and so the audit log of every org'),
                 ('pg_write_all_data', 'writes every table, and so can put an older credential back'),
                 ('pg_read_all_stats', 'sees the statements of other sessions')) AS t(name, words),
         pg_roles AS r
    WHERE pg_has_role(r.oid, to_regrole(name), 'MEMBER') AND NOT rolsuper)
SELECT 'advice', format('%s %s', role::regrole, words), 'byHand', format(fix, role::regrole)
FROM ability
WHERE role >= 16384
ORDER BY 2
