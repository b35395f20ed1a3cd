package store

import (
	"context"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Redis that hangs must not make the API slower than having none.
const cacheTimeout = 500 * time.Millisecond

// Cache remembers answers in Redis and counts requests there. The zero Cache is switched off: it holds nothing, takes
// nothing and counts nothing.
type Cache struct{ client *redis.Client }

// OpenCache connects to Redis. The Cache it returns can always be used: it is switched off when url is empty, and, with
// an error that says why, when Redis does not answer.
func OpenCache(ctx context.Context, url string) (*Cache, error) {
	if url == "" {
		return &Cache{}, nil
	}
	options, err := redis.ParseURL(url)
	if err != nil {
		return &Cache{}, errors.New("REDIS_URL can't be read") // without the parser's message, which shows the password
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = 2*time.Second, cacheTimeout, cacheTimeout
	options.MaxRetries, options.DialerRetries = -1, 1
	client := redis.NewClient(options)
	if err := client.Ping(ctx).Err(); err != nil {
		return &Cache{}, errors.Join(err, client.Close())
	}
	return &Cache{client}, nil
}

// Close closes the connections.
func (c *Cache) Close() {
	if c.client != nil {
		_ = c.client.Close() // all that it can say is that it was closed before
	}
}

// Get returns what was put under key, or nil.
func (c *Cache) Get(ctx context.Context, key string) ([]byte, error) {
	if c.client == nil {
		return nil, nil
	}
	value, err := c.client.Get(ctx, key).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return value, err
}

// Put keeps value under key for a while.
func (c *Cache) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if c.client == nil {
		return nil
	}
	return c.client.Set(ctx, key, value, ttl).Err()
}

// Count adds one to key's count and returns it; the count begins again when period is over. Switched off, it is always 0.
func (c *Cache) Count(ctx context.Context, key string, period time.Duration) (int64, error) {
	if c.client == nil {
		return 0, nil
	}
	// One transaction, so that no count is ever left without an end.
	pipe := c.client.TxPipeline()
	count := pipe.Incr(ctx, key)
	pipe.ExpireNX(ctx, key, period)
	_, err := pipe.Exec(ctx)
	return count.Val(), err
}
