SELECT CASE WHEN role IS NULL THEN 'advice' ELSE 'ok' END,
       CASE WHEN role IS NULL THEN format('there is no role %s', name)
            ELSE format('members of %s: %s', name, coalesce(members, 'none')) END,
       CASE WHEN role IS NULL THEN 'byHand' END,
       CASE WHEN role IS NULL THEN 'Run `intcred grant` as a superuser, which creates the group roles and their grants.' END
FROM unnest(ARRAY['integration_credentials_admin', 'integration_credentials_reader', 'integration_credentials_auditor'])
        WITH ORDINALITY AS t(name, position),
     to_regrole(name) AS role,
     LATERAL (SELECT string_agg(member::regrole::text, ', ' ORDER BY member::regrole::text)
              FROM pg_auth_members WHERE roleid = role) AS m(members)
UNION ALL
SELECT 'advice', format('%s can both set and read', oid::regrole), 'byHand',
       format('Remove the role from one of the groups, e.g. REVOKE integration_credentials_reader FROM %s;', oid::regrole)
FROM pg_roles
WHERE rolcanlogin AND NOT rolsuper
  AND has_schema_privilege(oid, to_regnamespace('integration_credentials'), 'USAGE')
  AND has_function_privilege(
          oid, to_regprocedure('integration_credentials.admin_set_integration_credentials(text,text,text)'), 'EXECUTE')
  AND has_function_privilege(
          oid, to_regprocedure('integration_credentials.get_integration_credentials(text)'), 'EXECUTE')
