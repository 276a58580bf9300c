SELECT 'problem', format('%s runs as its owner with %s', oid::regprocedure,
                         coalesce(array_to_string(proconfig, ', '), 'the search_path of its caller')),
       'sql', format('ALTER ROUTINE %s SET search_path = pg_catalog, pg_temp;', oid::regprocedure)
FROM pg_proc
WHERE pronamespace = to_regnamespace('integration_credentials')
  -- The C functions that write, and the one that reads all, switch to their owner without SECURITY DEFINER.
  AND (prosecdef OR proname = 'get_all_integration_credentials'
       OR provolatile = 'v' AND prolang = (SELECT oid FROM pg_language WHERE lanname = 'c'))
  AND NOT 'search_path=pg_catalog, pg_temp' = ANY (coalesce(proconfig, '{}'))
ORDER BY oid::regprocedure::text
