-- What only a superuser can make. Safe to run at every boot: it makes what is missing, and takes back from our
-- two roles what is not theirs.
SET client_min_messages = warning;

SELECT 'CREATE ROLE zmanim LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'zmanim') \gexec
-- Whatever a restored volume says: the API's role owns its database and nothing beyond it.
ALTER ROLE zmanim LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT -1;

-- Backups read everything and write nothing. BYPASSRLS: pg_cron guards its jobs by row, and a dump must hold them all.
SELECT 'CREATE ROLE zmanim_backup LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'zmanim_backup') \gexec
ALTER ROLE zmanim_backup LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION BYPASSRLS CONNECTION LIMIT -1;
-- Members of nothing else, whoever has granted that; its grantor has to be named.
SELECT format('REVOKE %I FROM %I GRANTED BY %I CASCADE', g.rolname, m.rolname, by.rolname)
FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
JOIN pg_roles by ON by.oid = a.grantor
WHERE m.rolname = 'zmanim' OR m.rolname = 'zmanim_backup' AND (g.rolname <> 'pg_read_all_data' OR a.admin_option) \gexec
SELECT 'GRANT pg_read_all_data TO zmanim_backup WITH INHERIT TRUE'
WHERE NOT pg_has_role('zmanim_backup', 'pg_read_all_data', 'usage') \gexec

-- pg_read_all_data does not cover large objects: the first one would fail every backup from then on.
ALTER ROLE zmanim_backup SET lo_compat_privileges = on;

SELECT 'CREATE DATABASE zmanim OWNER zmanim' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'zmanim') \gexec
\connect zmanim
SET client_min_messages = warning;

-- Into public by name: our sessions look for names in pg_catalog only.
CREATE EXTENSION IF NOT EXISTS postgis SCHEMA public;
CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;
CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public;
CREATE EXTENSION IF NOT EXISTS unaccent SCHEMA public;
CREATE EXTENSION IF NOT EXISTS pg_cron;
GRANT USAGE ON SCHEMA cron TO zmanim;
