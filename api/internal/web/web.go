// Package web answers the API's requests.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"zmanim/api/internal/config"
	"zmanim/api/internal/store"
)

const healthTime = 2 * time.Second
const cacheTime = time.Hour

// Database is what the handlers need of PostgreSQL.
type Database interface {
	Ping(ctx context.Context) error
	NearestCity(ctx context.Context, latitude, longitude float64) (store.City, error)
}

// Cache is what the handlers need of Redis. A cache that fails is a cache that has nothing.
type Cache interface {
	Get(ctx context.Context, key string) ([]byte, error)
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error
	Count(ctx context.Context, key string, period time.Duration) (int64, error)
}

// Parts are what the handlers are made of.
type Parts struct {
	Version  string
	Log      *slog.Logger
	Settings config.Config
	Database Database
	Cache    Cache
}

// New returns the handler of all requests.
func New(p Parts) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", p.health)
	mux.Handle("GET /cities/nearest", p.limited(p.nearestCity))
	return p.crossOrigin(mux)
}

// health says whether requests can be answered. Redis is not needed: without it answers are slower, not wrong.
func (p Parts) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), healthTime)
	defer cancel()
	code, status, database := http.StatusOK, "ok", "ok"
	if err := p.Database.Ping(ctx); err != nil {
		p.Log.Error("health: PostgreSQL did not answer", "error", err)
		code, status, database = http.StatusServiceUnavailable, "error", "error"
	}
	data := map[string]string{"status": status, "database": database, "version": p.Version}
	p.answer(w, code, data, "timestamp", time.Now().UTC().Format(time.RFC3339))
}

func (p Parts) nearestCity(w http.ResponseWriter, r *http.Request) {
	latitude, latitudeErr := degrees(r.FormValue("lat"), 90)
	longitude, longitudeErr := degrees(r.FormValue("lon"), 180)
	if latitudeErr != nil || longitudeErr != nil {
		p.refuse(w, http.StatusBadRequest, "bad_position", "lat must be a number from -90 to 90, lon from -180 to 180")
		return
	}
	ctx := r.Context()
	key := fmt.Sprintf("city:nearest:%.4f:%.4f", latitude, longitude)
	cached, err := p.Cache.Get(ctx, key)
	if err != nil {
		p.Log.Warn("cache: can't read", "error", err)
	}
	if cached != nil {
		p.answer(w, http.StatusOK, json.RawMessage(cached), "cache", "hit")
		return
	}
	city, err := p.Database.NearestCity(ctx, latitude, longitude)
	switch {
	case errors.Is(err, store.ErrNone):
		p.refuse(w, http.StatusNotFound, "no_city", "no city is known")
		return
	case err != nil:
		p.Log.Error("nearest city", "error", err)
		p.refuse(w, http.StatusInternalServerError, "internal", "the database could not answer")
		return
	}
	if value, err := json.Marshal(city); err != nil {
		p.Log.Error("cache: can't encode", "error", err)
	} else if err := p.Cache.Put(ctx, key, value, cacheTime); err != nil {
		p.Log.Warn("cache: can't write", "error", err)
	}
	p.answer(w, http.StatusOK, city, "cache", "miss")
}

// degrees reads a coordinate, rounded to four decimals (11 m): what is cached is then exact for its request.
func degrees(text string, limit float64) (float64, error) {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(value) || math.Abs(value) > limit {
		return 0, errors.New("not a coordinate")
	}
	return math.Round(value*1e4) / 1e4, nil
}

// limited allows each client only so many requests, as long as Redis can count.
func (p Parts) limited(next http.HandlerFunc) http.Handler {
	limit := p.Settings.RateLimit
	if limit.Requests == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, _, _ := net.SplitHostPort(r.RemoteAddr) // as net/http sets it
		count, err := p.Cache.Count(r.Context(), "rate:"+client, limit.Period)
		if err != nil {
			p.Log.Warn("rate limit: can't count", "error", err)
		} else if count > int64(limit.Requests) {
			w.Header().Set("Retry-After", strconv.Itoa(int(limit.Period.Seconds())))
			p.refuse(w, http.StatusTooManyRequests, "rate_limited", "too many requests")
			return
		}
		next(w, r)
	})
}

// crossOrigin tells browsers which other sites may read the answers.
func (p Parts) crossOrigin(next http.Handler) http.Handler {
	allowed := p.Settings.AllowedOrigins
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		w.Header().Add("Vary", "Origin")
		if origin != "" && (slices.Contains(allowed, origin) || slices.Contains(allowed, "*")) {
			w.Header().Set("Access-Control-Allow-Origin", origin)
		}
		next.ServeHTTP(w, r)
	})
}

// Every answer has one of these two shapes.
func (p Parts) answer(w http.ResponseWriter, code int, data any, meta, value string) {
	p.write(w, code, map[string]any{"data": data, "meta": map[string]string{meta: value}})
}

func (p Parts) refuse(w http.ResponseWriter, code int, word, message string) {
	p.write(w, code, map[string]any{"error": map[string]string{"code": word, "message": message}})
}

func (p Parts) write(w http.ResponseWriter, code int, body any) {
	content, err := json.Marshal(body)
	if err != nil {
		p.Log.Error("can't encode an answer", "error", err)
		code = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if _, err := w.Write(content); err != nil {
		p.Log.Info("the client left", "error", err)
	}
}
