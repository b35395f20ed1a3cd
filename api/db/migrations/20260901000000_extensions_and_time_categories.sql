-- The extensions that the schema needs, and the table without which the API does not start.
--
-- postgis and vector are not trusted: a superuser has made them before this runs as the owner of the database, and
-- IF NOT EXISTS then asks for no privilege.
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS postgis;
CREATE EXTENSION IF NOT EXISTS unaccent;
CREATE EXTENSION IF NOT EXISTS vector;

-- A transaction that is left open holds back vacuum for the whole database. New in PostgreSQL 17.
DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %I SET transaction_timeout = %L', current_database(), '60s');
END
$$;

CREATE TABLE time_categories (
    id         bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name       text NOT NULL UNIQUE,
    sort_order integer NOT NULL UNIQUE
);

INSERT INTO time_categories (name, sort_order) VALUES
    ('dawn', 10), ('sunrise', 20), ('midday', 30), ('sunset', 40), ('nightfall', 50), ('midnight', 60);
