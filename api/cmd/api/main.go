// Command api serves the reference zmanim API: it needs PostgreSQL with PostGIS, uses Redis when it is there, and is
// configured by its environment alone (internal/config).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"zmanim/api/internal/config"
	"zmanim/api/internal/store"
	"zmanim/api/internal/web"
)

// version is set by the linker: -X main.version=v1.2.3.
var version = "dev"

// shutdownTime is how long requests that have begun may take after SIGTERM; the unit's TimeoutStopSec is longer.
const shutdownTime = 30 * time.Second

func main() {
	showVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *showVersion {
		fmt.Println(version)
		return
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, log); err != nil {
		log.Error("stopped", "error", err)
		os.Exit(1)
	}
}

// run starts everything in order and serves until ctx ends. The order is part of the contract with the image: what is
// fatal (configuration, PostgreSQL, its migrations) fails before the port is open.
func run(ctx context.Context, log *slog.Logger) error {
	settings, err := config.FromEnvironment(os.Getenv)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	database, err := store.OpenDatabase(ctx, settings.DatabaseURL)
	if err != nil {
		return err
	}
	defer database.Close()
	cache, err := store.OpenCache(ctx, settings.RedisURL)
	if err != nil {
		log.Warn("no cache and no rate limit: Redis did not answer", "error", err)
	}
	defer cache.Close()
	categories, err := database.TimeCategories(ctx)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:      web.New(web.Parts{Version: version, Log: log, Settings: settings, Database: database, Cache: cache}),
		ReadTimeout:  15 * time.Second,
		WriteTimeout: 15 * time.Second,
	}
	listener, err := net.Listen("tcp", settings.Address())
	if err != nil {
		return err
	}
	log.Info("serving", "address", listener.Addr(), "version", version, "time_categories", len(categories))
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	log.Info("shutting down: answering the requests that have begun", "at_most", shutdownTime)
	limit, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	if err := server.Shutdown(limit); err != nil {
		return errors.Join(fmt.Errorf("requests were cut off: %w", err), server.Close())
	}
	return nil
}
