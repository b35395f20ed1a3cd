-- Cities by position (which one is next to here?) and by name (typed without accents, with mistakes).
CREATE TABLE cities (
    id        bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name      text NOT NULL,
    country   text NOT NULL CHECK (country ~ '^[A-Z]{2}$'), -- ISO 3166-1
    location  geography(Point, 4326) NOT NULL,
    embedding vector(3), -- of the description, for search by meaning; filled later
    UNIQUE (country, name)
);

CREATE INDEX cities_location ON cities USING gist (location);
CREATE INDEX cities_name ON cities USING gin (name gin_trgm_ops);

CREATE FUNCTION cities_named(wanted text) RETURNS SETOF cities
LANGUAGE sql STABLE
AS $$
    SELECT * FROM cities
    WHERE unaccent(name) % unaccent(wanted)
    ORDER BY similarity(unaccent(name), unaccent(wanted)) DESC
$$;

INSERT INTO cities (name, country, location) VALUES
    ('Jerusalem', 'IL', ST_MakePoint(35.2137, 31.7683)),
    ('Tel Aviv', 'IL', ST_MakePoint(34.7818, 32.0853)),
    ('New York', 'US', ST_MakePoint(-74.0060, 40.7128)),
    ('Los Angeles', 'US', ST_MakePoint(-118.2437, 34.0522)),
    ('Montréal', 'CA', ST_MakePoint(-73.5673, 45.5017)),
    ('London', 'GB', ST_MakePoint(-0.1278, 51.5074)),
    ('Dublin', 'IE', ST_MakePoint(-6.2603, 53.3498)),
    ('Antwerpen', 'BE', ST_MakePoint(4.4025, 51.2194)),
    ('São Paulo', 'BR', ST_MakePoint(-46.6333, -23.5505)),
    ('Johannesburg', 'ZA', ST_MakePoint(28.0473, -26.2041)),
    ('Melbourne', 'AU', ST_MakePoint(144.9631, -37.8136));
