-- Everything that CREATE EXTENSION makes, an object a row, with all its properties.
WITH member AS (
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'integration_credentials'
), relation AS (
    SELECT c.* FROM pg_class c JOIN member m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
)
SELECT format('%s %s: %s', o.type, o.identity, obj_description(m.objid, m.classid::regclass::text))
FROM member m, LATERAL pg_identify_object(m.classid, m.objid, 0) o
UNION ALL SELECT format('%s %s', pg_get_functiondef(p.oid), coalesce(p.proacl, acldefault('f', p.proowner)))
FROM pg_proc p JOIN member m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
UNION ALL SELECT format('relation %s %s',
    to_jsonb(r) - '{oid,relacl,reltype,relfilenode,relpages,reltuples,relallvisible,relallfrozen,relfrozenxid,relminmxid,relnamespace,reltoastrelid,relowner,relhasindex}'::text[],
    coalesce(r.relacl, acldefault(CASE r.relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, r.relowner)))
FROM relation r
UNION ALL SELECT format('column %s.%s: %s %s %s', r.relname,
    row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum), a.attname, format_type(a.atttypid, a.atttypmod), concat_ws(' ',
    a.attcollation::regcollation, a.attnotnull, a.attidentity, a.attgenerated, a.attstattarget, a.attstorage,
    a.attcompression, a.attacl, pg_get_expr(d.adbin, d.adrelid), col_description(r.oid, a.attnum)))
FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
UNION ALL SELECT format('constraint %s.%s: %s %s', r.relname, c.conname, pg_get_constraintdef(c.oid), c.convalidated)
FROM relation r JOIN pg_constraint c ON c.conrelid = r.oid
UNION ALL SELECT format('index %s %s', pg_get_indexdef(i.indexrelid), i.indisreplident)
FROM relation r JOIN pg_index i ON i.indrelid = r.oid
UNION ALL SELECT format('trigger %s %s', pg_get_triggerdef(t.oid), t.tgenabled)
FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid
UNION ALL SELECT format('view %s: %s', r.relname, pg_get_viewdef(r.oid)) FROM relation r WHERE r.relkind = 'v'
UNION ALL SELECT format('dumped %s: %s', c.place, c.table::regclass || ' ' || c.condition)
FROM pg_extension e, unnest(e.extconfig, e.extcondition) WITH ORDINALITY c ("table", condition, place)
WHERE e.extname = 'integration_credentials'
UNION ALL SELECT format('schema %s', coalesce(n.nspacl, acldefault('n', n.nspowner)))
FROM pg_namespace n WHERE n.nspname = 'integration_credentials'
UNION ALL SELECT format('extension %s %s %s', e.extrelocatable, e.extnamespace::regnamespace, e.extversion)
FROM pg_extension e WHERE e.extname = 'integration_credentials'
UNION ALL SELECT format('entry %s', to_jsonb(k) - 'updated_at')
FROM integration_credentials.integration_catalog k WHERE k.is_shipped
