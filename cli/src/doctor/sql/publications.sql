SELECT 'advice', format('the publication %I is FOR ALL TABLES, and so includes the tables of the extension', pubname), 'byHand',
       format('Replace the publication %I by a publication that names its tables.', pubname)
FROM pg_publication
WHERE puballtables
UNION ALL
SELECT 'advice', format('the publication %I publishes %I.%I', pubname, schemaname, tablename), 'byHand',
       CASE WHEN EXISTS (
            SELECT FROM pg_publication_namespace
            WHERE pnpubid = pg_publication.oid AND pnnspid = to_regnamespace(schemaname::text))
           THEN format('ALTER PUBLICATION %I DROP TABLES IN SCHEMA %I;', pubname, schemaname)
           ELSE format('ALTER PUBLICATION %I DROP TABLE %I.%I;', pubname, schemaname, tablename) END
FROM pg_publication_tables JOIN pg_publication USING (pubname)
WHERE schemaname = 'integration_credentials' AND NOT puballtables
ORDER BY 2
