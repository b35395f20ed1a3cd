package web

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"zmanim/api/internal/config"
	"zmanim/api/internal/store"
)

type fakeDatabase struct {
	ping  func(ctx context.Context) error
	city  store.City
	err   error
	asked int
}

func (d *fakeDatabase) Ping(ctx context.Context) error {
	if d.ping == nil {
		return nil
	}
	return d.ping(ctx)
}

func (d *fakeDatabase) NearestCity(context.Context, float64, float64) (store.City, error) {
	d.asked++
	return d.city, d.err
}

type fakeCache struct {
	values map[string][]byte
	counts map[string]int64
	err    error
}

func newCache() *fakeCache {
	return &fakeCache{values: map[string][]byte{}, counts: map[string]int64{}}
}

func (c *fakeCache) Get(_ context.Context, key string) ([]byte, error) { return c.values[key], c.err }

func (c *fakeCache) Put(_ context.Context, key string, value []byte, _ time.Duration) error {
	if c.err == nil {
		c.values[key] = value
	}
	return c.err
}

func (c *fakeCache) Count(_ context.Context, key string, _ time.Duration) (int64, error) {
	c.counts[key]++
	return c.counts[key], c.err
}

func parts(database Database, cache Cache) Parts {
	return Parts{Version: "v1.2.3", Log: slog.New(slog.DiscardHandler), Database: database, Cache: cache}
}

// ask returns the status code and the decoded answer.
func ask(t *testing.T, p Parts, target string) (int, map[string]map[string]any) {
	t.Helper()
	recorder := httptest.NewRecorder()
	New(p).ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, target, nil))
	var body map[string]map[string]any
	if err := json.Unmarshal(recorder.Body.Bytes(), &body); err != nil {
		t.Fatalf("%d %q: %v", recorder.Code, recorder.Body, err)
	}
	return recorder.Code, body
}

func TestHealthSaysOkAndTheVersion(t *testing.T) {
	code, body := ask(t, parts(&fakeDatabase{}, newCache()), "/health")
	data := body["data"]
	if code != 200 || data["status"] != "ok" || data["database"] != "ok" || data["version"] != "v1.2.3" || body["meta"] == nil {
		t.Errorf("%d %v", code, body)
	}
}

func TestHealthIs503WhenTheDatabaseFails(t *testing.T) {
	database := &fakeDatabase{ping: func(context.Context) error { return errors.New("down") }}
	code, body := ask(t, parts(database, newCache()), "/health")
	if code != 503 || body["data"]["database"] != "error" || body["data"]["version"] != "v1.2.3" {
		t.Errorf("%d %v", code, body)
	}
}

func TestHealthWaitsTwoSecondsForTheDatabaseAndNoLonger(t *testing.T) {
	var left time.Duration
	database := &fakeDatabase{ping: func(ctx context.Context) error {
		deadline, _ := ctx.Deadline()
		left = time.Until(deadline)
		return context.DeadlineExceeded
	}}
	if code, _ := ask(t, parts(database, newCache()), "/health"); code != 503 {
		t.Error(code)
	}
	if left < 1900*time.Millisecond || left > 2*time.Second {
		t.Errorf("the database has %s to answer", left)
	}
}

func TestHealthDoesNotAskRedis(t *testing.T) {
	cache := newCache()
	cache.err = errors.New("down")
	p := parts(&fakeDatabase{}, cache)
	p.Settings.RateLimit = config.RateLimit{Requests: 1, Period: time.Minute}
	for range 3 {
		if code, _ := ask(t, p, "/health"); code != 200 {
			t.Error(code)
		}
	}
	if len(cache.counts) != 0 {
		t.Error("health checks are counted against the rate limit")
	}
}

func TestTheNearestCityIsAskedForOnceAndThenRemembered(t *testing.T) {
	database := &fakeDatabase{city: store.City{ID: 7, Name: "Jerusalem"}}
	p := parts(database, newCache())
	for _, want := range []string{"miss", "hit"} {
		code, body := ask(t, p, "/cities/nearest?lat=31.77&lon=35.21")
		if code != 200 || body["meta"]["cache"] != want || body["data"]["name"] != "Jerusalem" || body["data"]["id"] != 7.0 {
			t.Errorf("%s: %d %v", want, code, body)
		}
	}
	if database.asked != 1 {
		t.Errorf("the database was asked %d times", database.asked)
	}
}

func TestAnotherPositionIsNotAnsweredFromTheCache(t *testing.T) {
	database := &fakeDatabase{}
	p := parts(database, newCache())
	ask(t, p, "/cities/nearest?lat=31.77&lon=35.21")
	ask(t, p, "/cities/nearest?lat=31.77&lon=-35.21")
	if database.asked != 2 {
		t.Errorf("the database was asked %d times", database.asked)
	}
}

func TestAFailingCacheChangesNoAnswer(t *testing.T) {
	cache := newCache()
	cache.err = errors.New("down")
	p := parts(&fakeDatabase{city: store.City{Name: "London"}}, cache)
	p.Settings.RateLimit = config.RateLimit{Requests: 1, Period: time.Minute}
	for range 3 {
		code, body := ask(t, p, "/cities/nearest?lat=51.5&lon=0")
		if code != 200 || body["data"]["name"] != "London" || body["meta"]["cache"] != "miss" {
			t.Errorf("%d %v", code, body)
		}
	}
}

func TestWhatIsNotAPositionIsRefused(t *testing.T) {
	database := &fakeDatabase{}
	for _, query := range []string{"", "?lat=1", "?lon=1", "?lat=91&lon=0", "?lat=0&lon=-181", "?lat=NaN&lon=0", "?lat=Inf&lon=0", "?lat=x&lon=0"} {
		if code, body := ask(t, parts(database, newCache()), "/cities/nearest"+query); code != 400 || body["error"]["code"] != "bad_position" {
			t.Errorf("%s: %d %v", query, code, body)
		}
	}
	if database.asked != 0 {
		t.Error("the database was asked")
	}
}

func TestADatabaseErrorIsAnsweredWithoutItsWords(t *testing.T) {
	for err, want := range map[error]int{store.ErrNone: 404, errors.New("secret detail"): 500} {
		code, body := ask(t, parts(&fakeDatabase{err: err}, newCache()), "/cities/nearest?lat=0&lon=0")
		if code != want || body["error"]["message"] == "secret detail" {
			t.Errorf("%v: %d %v", err, code, body)
		}
	}
}

func TestAClientThatAsksTooOftenIsRefused(t *testing.T) {
	p := parts(&fakeDatabase{}, newCache())
	p.Settings.RateLimit = config.RateLimit{Requests: 2, Period: time.Minute}
	for i, want := range []int{200, 200, 429} {
		if code, _ := ask(t, p, "/cities/nearest?lat=0&lon=0"); code != want {
			t.Errorf("request %d: %d", i+1, code)
		}
	}
}

func TestOnlyAllowedOriginsMayReadAnswers(t *testing.T) {
	p := parts(&fakeDatabase{}, newCache())
	p.Settings.AllowedOrigins = []string{"https://a.example"}
	for origin, want := range map[string]string{"https://a.example": "https://a.example", "https://b.example": "", "": ""} {
		recorder := httptest.NewRecorder()
		request := httptest.NewRequest(http.MethodGet, "/health", nil)
		request.Header.Set("Origin", origin)
		New(p).ServeHTTP(recorder, request)
		if got := recorder.Header().Get("Access-Control-Allow-Origin"); got != want {
			t.Errorf("%q: %q", origin, got)
		}
	}
}
