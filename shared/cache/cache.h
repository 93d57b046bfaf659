/* cache.h - the one door to Redis: hot copies that may vanish at any time.
 *
 * The rule of this room: everything here can be rebuilt, so no caller may fail because of it. Each
 * call returns ERR_UNAVAILABLE quickly while Redis is away (at most one connection attempt per
 * back-off period, 100 ms to 5 s, each bounded by the timeout): the caller goes on without.
 * Nothing that money depends on is read from here.
 *
 * Threads: one struct cache per thread; no locks inside. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/err.h"

#define CACHE_KEY_MAX 512          /* bytes */
#define CACHE_VALUE_MAX (1u << 20) /* bytes, in either direction */
#define CACHE_REPLY_MAX 1000       /* fields or members in one answer */
#define CACHE_PIPELINE_MAX 256     /* commands in one pipeline */

struct cache;

struct cache_options {
    const char *address; /* "host:port"; "" or NULL: no Redis, every call is ERR_UNAVAILABLE */
    const char *prefix;  /* put before every key, e.g. "ol:"; NULL: none */
    uint32_t timeout_ms; /* for connecting and for each call; 0: 200 */
};

/* Never fails because Redis is away: it connects at the first call. ERR_INVALID: malformed address. */
MUST_USE enum err cache_open(const struct cache_options *options, struct cache **out_cache);
void cache_close(struct cache *cache); /* accepts NULL */

/* Values handed out are malloc()ed, NUL-terminated for convenience (the NUL is not counted); release
 * with cache_value_clear(), which accepts an empty one. */
struct cache_value {
    char *data;
    size_t size;
};
void cache_value_clear(struct cache_value *value);

/* One field of a hash, or one member of a sorted set with its score. */
struct cache_entry {
    struct cache_value name;
    struct cache_value value; /* hashes */
    double score;             /* sorted sets */
};
struct cache_list {
    struct cache_entry *items;
    size_t count; /* 0..CACHE_REPLY_MAX */
};
void cache_list_clear(struct cache_list *list);

/* ttl_ms 0: no expiry. ERR_LIMIT: key or value too large. */
MUST_USE enum err cache_set(struct cache *cache, const char *key, struct bytes value,
                            uint64_t ttl_ms);
/* Sets only if the key is absent; ERR_CONFLICT when it is there. */
MUST_USE enum err cache_add(struct cache *cache, const char *key, struct bytes value,
                            uint64_t ttl_ms);
/* ERR_NOT_FOUND when absent. */
MUST_USE enum err cache_get(struct cache *cache, const char *key, struct cache_value *out_value);
MUST_USE enum err cache_del(struct cache *cache, const char *key);
/* Adds by (may be negative) and returns the new value. When the key is new and ttl_ms is not 0 it
 * expires then: a rate-limit window. */
MUST_USE enum err cache_incr(struct cache *cache, const char *key, int64_t by, uint64_t ttl_ms,
                             int64_t *out_value);
MUST_USE enum err cache_hset(struct cache *cache, const char *key, const char *field,
                             struct bytes value);
MUST_USE enum err cache_hget(struct cache *cache, const char *key, const char *field,
                             struct cache_value *out_value);
/* An absent key gives an empty list. ERR_LIMIT: more than CACHE_REPLY_MAX fields. */
MUST_USE enum err cache_hgetall(struct cache *cache, const char *key, struct cache_list *out_list);
MUST_USE enum err cache_zadd(struct cache *cache, const char *key, const char *member,
                             double score);
MUST_USE enum err cache_zincr(struct cache *cache, const char *key, const char *member, double by);
/* At most max (1..CACHE_REPLY_MAX) members, highest score first: a leaderboard. */
MUST_USE enum err cache_ztop(struct cache *cache, const char *key, size_t max,
                             struct cache_list *out_list);

/* Pipeline: between begin and end, the calls that return no value (set, del, hset, zadd, zincr) are
 * queued (ERR_OK) and sent together by end, which returns the first error. ERR_LIMIT past
 * CACHE_PIPELINE_MAX: nothing more is queued. */
void cache_pipeline_begin(struct cache *cache);
MUST_USE enum err cache_pipeline_end(struct cache *cache);

/* True when the last call reached Redis: for status pages. */
bool cache_connected(const struct cache *cache);
