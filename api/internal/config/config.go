// Package config reads the API's settings from its environment.
package config

import (
	"cmp"
	"errors"
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

// FromEnvironment reads the settings by get, which is os.Getenv outside tests. It reports every error at once, by the
// variable's name and never by its value, as some of them are secrets.
func FromEnvironment(get func(string) string) (Config, error) {
	var errs []error
	check := func(ok bool, message string) {
		if !ok {
			errs = append(errs, errors.New(message))
		}
	}
	or := func(name, fallback string) string { return cmp.Or(get(name), fallback) }
	c := Config{
		DatabaseURL: get("DATABASE_URL"),
		RedisURL:    get("REDIS_URL"),
		JWTSecret:   get("JWT_SECRET"),
		Environment: or("ENVIRONMENT", "development"),
		Host:        or("HOST", "127.0.0.1"),
	}
	check(c.DatabaseURL != "", "DATABASE_URL is not set")
	check(c.JWTSecret != "" || c.Environment != "production", "JWT_SECRET is not set, and ENVIRONMENT is production")
	var err error
	c.Port, err = strconv.Atoi(or("PORT", "8080"))
	check(err == nil && c.Port >= 1 && c.Port <= 65535, "PORT is not a number from 1 to 65535")
	c.RateLimit.Requests, err = strconv.Atoi(or("RATE_LIMIT_REQUESTS", "100"))
	check(err == nil && c.RateLimit.Requests >= 0, "RATE_LIMIT_REQUESTS is not a number, 0 or more")
	c.RateLimit.Period, err = time.ParseDuration(or("RATE_LIMIT_DURATION", "1m"))
	check(err == nil && c.RateLimit.Period >= time.Second, "RATE_LIMIT_DURATION is not a duration of at least 1s, such as 1m")
	for origin := range strings.SplitSeq(get("ALLOWED_ORIGINS"), ",") {
		if origin = strings.TrimSpace(origin); origin != "" {
			c.AllowedOrigins = append(c.AllowedOrigins, origin)
		}
	}
	return c, errors.Join(errs...)
}
