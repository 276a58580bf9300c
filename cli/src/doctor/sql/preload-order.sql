WITH library AS (
    SELECT name, position, regexp_replace(btrim(name, '"'), '^.*/|\.so$', '', 'g') = 'integration_credentials' AS is_ours
    FROM regexp_split_to_table(btrim(current_setting('shared_preload_libraries')), '\s*,\s*')
        WITH ORDINALITY AS t(name, position)),
later AS (
    SELECT string_agg(name, ', ' ORDER BY position) AS names
    FROM library
    WHERE position > (SELECT min(position) FROM library WHERE is_ours) AND NOT is_ours)
SELECT 'problem', format('loaded after integration_credentials: %s', names), 'restart',
       format('shared_preload_libraries = %L',
              (SELECT string_agg(name, ', ' ORDER BY is_ours, position) FROM library))
FROM later
WHERE names IS NOT NULL
UNION ALL
SELECT 'advice', format('%s = %s: loaded by each session, and so after integration_credentials', name, setting),
       'byHand', 'Move the libraries into shared_preload_libraries, before integration_credentials.'
FROM (VALUES ('session_preload_libraries'), ('local_preload_libraries')) AS t(name),
     current_setting(name) AS setting
WHERE setting <> ''
