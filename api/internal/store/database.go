// Package store keeps what the API knows: PostgreSQL holds it, Redis remembers answers for a while.
package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// How long the server has to answer at the start.
const startTime = 10 * time.Second

// ErrNone says that nothing matches.
var ErrNone = pgx.ErrNoRows

// City is a place that times can be calculated for.
type City struct {
	ID             int64   `json:"id"`
	Name           string  `json:"name"`
	Country        string  `json:"country"`
	Latitude       float64 `json:"latitude"`
	Longitude      float64 `json:"longitude"`
	DistanceMetres float64 `json:"distance_metres"` // from the position of the request
}

// Database is a pool of connections to PostgreSQL.
type Database struct{ pool *pgxpool.Pool }

// OpenDatabase connects, within 10 seconds.
func OpenDatabase(ctx context.Context, url string) (*Database, error) {
	settings, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL can't be read: %w", err) // pgx leaves the password out of its message
	}
	settings.MinConns, settings.MaxConns = 5, 25
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	pool, err := pgxpool.NewWithConfig(ctx, settings)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("PostgreSQL can't be reached (it has %s to answer): %w", startTime, err)
	}
	return &Database{pool}, nil
}

// Close waits for connections in use and closes them all.
func (d *Database) Close() { d.pool.Close() }

// Ping checks that the server answers.
func (d *Database) Ping(ctx context.Context) error { return d.pool.Ping(ctx) }

// TimeCategories returns the names of all time categories in their order. It fails when the migrations have not run.
func (d *Database) TimeCategories(ctx context.Context) ([]string, error) {
	rows, _ := d.pool.Query(ctx, "SELECT name FROM time_categories ORDER BY sort_order") // its error is that of rows
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("time_categories can't be read (have the migrations run?): %w", err)
	}
	return names, nil
}

// NearestCity returns the city next to a position in degrees, or ErrNone.
func (d *Database) NearestCity(ctx context.Context, latitude, longitude float64) (City, error) {
	const query = `
		SELECT id, name, country, ST_Y(location::geometry), ST_X(location::geometry), location <-> here AS distance
		FROM cities, (SELECT ST_MakePoint($2, $1)::geography AS here) AS position
		ORDER BY distance
		LIMIT 1`
	rows, _ := d.pool.Query(ctx, query, latitude, longitude) // its error is that of rows
	return pgx.CollectOneRow(rows, pgx.RowToStructByPos[City])
}
