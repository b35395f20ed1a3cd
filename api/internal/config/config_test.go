package config

import (
	"strings"
	"testing"
	"time"
)

func read(t *testing.T, variables map[string]string) (Config, error) {
	t.Helper()
	return FromEnvironment(func(name string) string { return variables[name] })
}

func TestOnlyTheDatabaseMustBeSet(t *testing.T) {
	c, err := read(t, map[string]string{"DATABASE_URL": "host=/run/postgresql"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Address() != "127.0.0.1:8080" || c.RateLimit != (RateLimit{100, time.Minute}) || c.AllowedOrigins != nil {
		t.Errorf("unexpected defaults: %+v", c)
	}
}

func TestEveryFaultIsReportedAtOnceByNameAndNeverByValue(t *testing.T) {
	_, err := read(t, map[string]string{
		"ENVIRONMENT": "production", "PORT": "70000", "RATE_LIMIT_REQUESTS": "-1", "RATE_LIMIT_DURATION": "hunter2",
	})
	if err == nil {
		t.Fatal("five faults were accepted")
	}
	for _, name := range []string{"DATABASE_URL", "JWT_SECRET", "PORT", "RATE_LIMIT_REQUESTS", "RATE_LIMIT_DURATION"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named in %q", name, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a value is shown in %q", err)
	}
}

func TestProductionNeedsAJWTSecretAndNothingElseDoes(t *testing.T) {
	variables := map[string]string{"DATABASE_URL": "x"}
	for _, environment := range []string{"", "development", "verify"} {
		variables["ENVIRONMENT"] = environment
		if _, err := read(t, variables); err != nil {
			t.Errorf("ENVIRONMENT=%q: %v", environment, err)
		}
	}
	variables["ENVIRONMENT"] = "production"
	if _, err := read(t, variables); err == nil {
		t.Error("production started without JWT_SECRET")
	}
	variables["JWT_SECRET"] = "s"
	if _, err := read(t, variables); err != nil {
		t.Error(err)
	}
}

func TestVariablesThatTheContractDoesNotNameAreNeverRead(t *testing.T) {
	known := " DATABASE_URL REDIS_URL JWT_SECRET ENVIRONMENT HOST PORT ALLOWED_ORIGINS RATE_LIMIT_REQUESTS RATE_LIMIT_DURATION "
	_, _ = FromEnvironment(func(name string) string {
		if !strings.Contains(known, " "+name+" ") {
			t.Errorf("%s was read", name)
		}
		return ""
	})
}

func TestOriginsAreSeparatedByCommas(t *testing.T) {
	c, err := read(t, map[string]string{"DATABASE_URL": "x", "ALLOWED_ORIGINS": "https://a.example, https://b.example,"})
	if err != nil || strings.Join(c.AllowedOrigins, " ") != "https://a.example https://b.example" {
		t.Errorf("%q, %v", c.AllowedOrigins, err)
	}
}
