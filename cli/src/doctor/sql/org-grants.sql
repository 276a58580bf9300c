-- A grant to a role may be intended, for a service of all orgs; a grant to PUBLIC is not.
SELECT CASE grantee WHEN 0 THEN 'problem' ELSE 'advice' END,
       format('%s has %s on the setting %s', who, privilege_type, parname),
       CASE grantee WHEN 0 THEN 'sql' ELSE 'byHand' END,
       format('REVOKE %s ON PARAMETER %I.%I FROM %s;', privilege_type,
              split_part(parname, '.', 1), split_part(parname, '.', 2), who)
FROM pg_parameter_acl, aclexplode(paracl),
     LATERAL (SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END) AS t(who)
WHERE parname ~ '^integration_credentials\.' AND grantee <> 10
ORDER BY parname, who, privilege_type
