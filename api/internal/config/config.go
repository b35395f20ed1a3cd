// Package config reads the API's settings from its environment.
package config

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Config is everything that can be set from outside.
type Config struct {
	DatabaseURL    string // any form that libpq knows: a URL, or "host=/run/postgresql dbname=zmanim"
	RedisURL       string // empty: no cache and no rate limit
	JWTSecret      string // may be empty outside production
	Environment    string
	Host           string
	Port           int
	AllowedOrigins []string // for CORS; "*" allows every origin
	RateLimit      RateLimit
}

// RateLimit allows each client a number of requests in each period.
type RateLimit struct {
	Requests int // 0: no limit
	Period   time.Duration
}

// Address is what to listen on.
func (c Config) Address() string { return net.JoinHostPort(c.Host, strconv.Itoa(c.Port)) }

// FromEnvironment reads the settings by get, which is os.Getenv outside tests. It reports every fault at once, by the
// variable's name and never by its value, as some of them are secrets.
func FromEnvironment(get func(string) string) (Config, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	or := func(name, fallback string) string {
		if value := get(name); value != "" {
			return value
		}
		return fallback
	}

	c := Config{
		DatabaseURL: get("DATABASE_URL"),
		RedisURL:    get("REDIS_URL"),
		JWTSecret:   get("JWT_SECRET"),
		Environment: or("ENVIRONMENT", "development"),
		Host:        or("HOST", "127.0.0.1"),
	}
	if c.DatabaseURL == "" {
		fault("DATABASE_URL is not set")
	}
	if c.JWTSecret == "" && c.Environment == "production" {
		fault("JWT_SECRET is not set, and ENVIRONMENT is production")
	}
	var err error
	if c.Port, err = strconv.Atoi(or("PORT", "8080")); err != nil || c.Port < 1 || c.Port > 65535 {
		fault("PORT is not a number from 1 to 65535")
	}
	if c.RateLimit.Requests, err = strconv.Atoi(or("RATE_LIMIT_REQUESTS", "100")); err != nil || c.RateLimit.Requests < 0 {
		fault("RATE_LIMIT_REQUESTS is not a number, 0 or more")
	}
	if c.RateLimit.Period, err = time.ParseDuration(or("RATE_LIMIT_DURATION", "1m")); err != nil || c.RateLimit.Period < time.Second {
		fault("RATE_LIMIT_DURATION is not a duration of at least 1s, such as 1m")
	}
	for origin := range strings.SplitSeq(get("ALLOWED_ORIGINS"), ",") {
		if origin = strings.TrimSpace(origin); origin != "" {
			c.AllowedOrigins = append(c.AllowedOrigins, origin)
		}
	}
	return c, errors.Join(faults...)
}
