/* cache.c - a blocking Redis client that gives up quickly; see cache.h.
 *
 * hiredis 0.14 does the protocol. Any transport error drops the connection; the next attempt waits
 * for the back-off, so that a caller in a loop does not pay the timeout each time. */
#include "shared/cache/cache.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/platform/clock.h"

#define CACHE_BACKOFF_MIN_MS 100
#define CACHE_BACKOFF_MAX_MS 5000
#define CACHE_HOST_MAX 256
#define CACHE_ARGS_MAX 6

struct cache {
    char host[CACHE_HOST_MAX]; /* "": there is no Redis */
    int port;
    char prefix[CACHE_KEY_MAX];
    uint32_t timeout_ms;
    redisContext *redis;
    uint64_t retry_at_ms;
    uint32_t backoff_ms;
    bool piping;
    size_t queued;
    enum err pipe_err;
};

enum err cache_open(const struct cache_options *options, struct cache **out_cache)
{
    struct cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL) {
        return ERR_NO_MEMORY;
    }
    cache->timeout_ms = options->timeout_ms == 0 ? 200 : options->timeout_ms;
    const char *address = options->address == NULL ? "" : options->address;
    const char *prefix = options->prefix == NULL ? "" : options->prefix;
    const char *colon = strrchr(address, ':');
    char *end = NULL;
    long port = colon == NULL ? 0 : strtol(colon + 1, &end, 10);
    bool given = address[0] != '\0';
    if ((given && (colon == NULL || colon == address || *end != '\0' || port < 1 || port > 65535 ||
                   (size_t)(colon - address) >= sizeof cache->host)) ||
        strlen(prefix) >= sizeof cache->prefix) {
        free(cache);
        return ERR_INVALID;
    }
    if (given) {
        memcpy(cache->host, address, (size_t)(colon - address));
        cache->port = (int)port;
    }
    memcpy(cache->prefix, prefix, strlen(prefix) + 1);
    *out_cache = cache;
    return ERR_OK;
}

static void hang_up(struct cache *cache)
{
    if (cache->redis != NULL) {
        redisFree(cache->redis);
        cache->redis = NULL;
    }
}

void cache_close(struct cache *cache)
{
    if (cache != NULL) {
        hang_up(cache);
        free(cache);
    }
}

bool cache_connected(const struct cache *cache)
{
    return cache->redis != NULL;
}

void cache_value_clear(struct cache_value *value)
{
    free(value->data);
    *value = (struct cache_value){0};
}

void cache_list_clear(struct cache_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        cache_value_clear(&list->items[i].name);
        cache_value_clear(&list->items[i].value);
    }
    free(list->items);
    *list = (struct cache_list){0};
}

static enum err lost(struct cache *cache)
{
    hang_up(cache);
    cache->backoff_ms = cache->backoff_ms == 0 ? CACHE_BACKOFF_MIN_MS : cache->backoff_ms * 2;
    if (cache->backoff_ms > CACHE_BACKOFF_MAX_MS) {
        cache->backoff_ms = CACHE_BACKOFF_MAX_MS;
    }
    cache->retry_at_ms = clock_mono_ms() + cache->backoff_ms;
    return ERR_UNAVAILABLE;
}

static enum err connect_redis(struct cache *cache)
{
    if (cache->redis != NULL) {
        return ERR_OK;
    }
    if (cache->host[0] == '\0' || clock_mono_ms() < cache->retry_at_ms) {
        return ERR_UNAVAILABLE;
    }
    struct timeval timeout = {.tv_sec = cache->timeout_ms / 1000,
                              .tv_usec = (cache->timeout_ms % 1000) * 1000L};
    cache->redis = redisConnectWithTimeout(cache->host, cache->port, timeout);
    if (cache->redis == NULL || cache->redis->err != 0 ||
        redisSetTimeout(cache->redis, timeout) != REDIS_OK) {
        return lost(cache);
    }
    cache->backoff_ms = 0;
    return ERR_OK;
}

/* A command's words. The first is the name, the second the key (prefixed here). */
struct words {
    const char *text[CACHE_ARGS_MAX];
    size_t size[CACHE_ARGS_MAX];
    int count;
    char key[2 * CACHE_KEY_MAX];
};

static void put(struct words *words, const void *text, size_t size)
{
    CHECK(words->count < CACHE_ARGS_MAX);
    words->text[words->count] = text == NULL ? "" : text;
    words->size[words->count++] = size;
}

static enum err begin(struct cache *cache, struct words *words, const char *name, const char *key)
{
    words->count = 0;
    put(words, name, strlen(name));
    if (strlen(key) > CACHE_KEY_MAX) {
        return ERR_LIMIT;
    }
    int size = snprintf(words->key, sizeof words->key, "%s%s", cache->prefix, key);
    put(words, words->key, (size_t)size);
    return ERR_OK;
}

/* Sends the words and waits for the answer, which must have kind type (or nil: ERR_NOT_FOUND). */
static enum err ask(struct cache *cache, const struct words *words, int type,
                    redisReply **out_reply)
{
    enum err err = connect_redis(cache);
    if (err != ERR_OK) {
        return err;
    }
    const char *text[CACHE_ARGS_MAX];
    memcpy(text, words->text, sizeof text);
    redisReply *reply = redisCommandArgv(cache->redis, words->count, text, words->size);
    if (reply == NULL) {
        return lost(cache);
    }
    if (reply->type == REDIS_REPLY_NIL) {
        err = ERR_NOT_FOUND;
    } else if (reply->type != type) {
        err = reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "WRONGTYPE", 9) == 0
                  ? ERR_INVALID
                  : ERR_UNAVAILABLE; /* loading, out of memory, read-only: as if it were away */
    }
    if (err != ERR_OK || out_reply == NULL) {
        freeReplyObject(reply);
    } else {
        *out_reply = reply;
    }
    return err;
}

/* For commands whose answer is not wanted: queued in a pipeline, else asked. */
static enum err tell(struct cache *cache, const struct words *words, int type)
{
    if (!cache->piping) {
        return ask(cache, words, type, NULL);
    }
    if (cache->queued == CACHE_PIPELINE_MAX) {
        return ERR_LIMIT;
    }
    if (cache->pipe_err == ERR_OK) {
        cache->pipe_err = connect_redis(cache);
    }
    if (cache->pipe_err == ERR_OK) {
        const char *text[CACHE_ARGS_MAX];
        memcpy(text, words->text, sizeof text);
        if (redisAppendCommandArgv(cache->redis, words->count, text, words->size) == REDIS_OK) {
            cache->queued++;
        } else {
            cache->pipe_err = lost(cache);
        }
    }
    return ERR_OK;
}

void cache_pipeline_begin(struct cache *cache)
{
    CHECK(!cache->piping);
    cache->piping = true;
    cache->queued = 0;
    cache->pipe_err = ERR_OK;
}

enum err cache_pipeline_end(struct cache *cache)
{
    CHECK(cache->piping);
    cache->piping = false;
    enum err err = cache->pipe_err;
    for (; cache->redis != NULL && cache->queued > 0; cache->queued--) {
        redisReply *reply = NULL;
        if (redisGetReply(cache->redis, (void **)&reply) != REDIS_OK) {
            err = lost(cache);
            break;
        }
        if (reply->type == REDIS_REPLY_ERROR && err == ERR_OK) {
            err = ERR_UNAVAILABLE;
        }
        freeReplyObject(reply);
    }
    cache->queued = 0;
    return err;
}

static enum err copy_value(const redisReply *reply, struct cache_value *out_value)
{
    if (reply->len > CACHE_VALUE_MAX) {
        return ERR_LIMIT;
    }
    char *data = malloc(reply->len + 1);
    if (data == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(data, reply->str, reply->len);
    data[reply->len] = '\0';
    *out_value = (struct cache_value){.data = data, .size = reply->len};
    return ERR_OK;
}

static enum err set(struct cache *cache, const char *key, struct bytes value, uint64_t ttl_ms,
                    bool only_new)
{
    struct words words;
    char ttl[24];
    enum err err = begin(cache, &words, "SET", key);
    if (err != ERR_OK || value.size > CACHE_VALUE_MAX) {
        return ERR_LIMIT;
    }
    put(&words, value.data, value.size);
    if (ttl_ms != 0) {
        put(&words, "PX", 2);
        put(&words, ttl, (size_t)snprintf(ttl, sizeof ttl, "%llu", (unsigned long long)ttl_ms));
    }
    if (only_new) {
        CHECK(!cache->piping);
        put(&words, "NX", 2);
        err = ask(cache, &words, REDIS_REPLY_STATUS, NULL);
        return err == ERR_NOT_FOUND ? ERR_CONFLICT : err;
    }
    return tell(cache, &words, REDIS_REPLY_STATUS);
}

enum err cache_set(struct cache *cache, const char *key, struct bytes value, uint64_t ttl_ms)
{
    return set(cache, key, value, ttl_ms, false);
}

enum err cache_add(struct cache *cache, const char *key, struct bytes value, uint64_t ttl_ms)
{
    return set(cache, key, value, ttl_ms, true);
}

static enum err get(struct cache *cache, const struct words *words, struct cache_value *out_value)
{
    CHECK(!cache->piping);
    redisReply *reply = NULL;
    enum err err = ask(cache, words, REDIS_REPLY_STRING, &reply);
    if (err == ERR_OK) {
        err = copy_value(reply, out_value);
        freeReplyObject(reply);
    }
    return err;
}

enum err cache_get(struct cache *cache, const char *key, struct cache_value *out_value)
{
    struct words words;
    enum err err = begin(cache, &words, "GET", key);
    return err == ERR_OK ? get(cache, &words, out_value) : err;
}

enum err cache_del(struct cache *cache, const char *key)
{
    struct words words;
    enum err err = begin(cache, &words, "DEL", key);
    return err == ERR_OK ? tell(cache, &words, REDIS_REPLY_INTEGER) : err;
}

enum err cache_incr(struct cache *cache, const char *key, int64_t by, uint64_t ttl_ms,
                    int64_t *out_value)
{
    CHECK(!cache->piping);
    struct words words;
    char number[24];
    enum err err = begin(cache, &words, "INCRBY", key);
    if (err != ERR_OK) {
        return err;
    }
    put(&words, number, (size_t)snprintf(number, sizeof number, "%lld", (long long)by));
    redisReply *reply = NULL;
    err = ask(cache, &words, REDIS_REPLY_INTEGER, &reply);
    if (err != ERR_OK) {
        return err;
    }
    int64_t value = reply->integer;
    freeReplyObject(reply);
    if (ttl_ms != 0 && value == by) {
        (void)begin(cache, &words, "PEXPIRE", key);
        put(&words, number,
            (size_t)snprintf(number, sizeof number, "%llu", (unsigned long long)ttl_ms));
        err = ask(cache, &words, REDIS_REPLY_INTEGER, NULL);
        if (err != ERR_OK) {
            return err;
        }
    }
    *out_value = value;
    return ERR_OK;
}

enum err cache_hset(struct cache *cache, const char *key, const char *field, struct bytes value)
{
    struct words words;
    enum err err = begin(cache, &words, "HSET", key);
    if (err != ERR_OK || strlen(field) > CACHE_KEY_MAX || value.size > CACHE_VALUE_MAX) {
        return ERR_LIMIT;
    }
    put(&words, field, strlen(field));
    put(&words, value.data, value.size);
    return tell(cache, &words, REDIS_REPLY_INTEGER);
}

enum err cache_hget(struct cache *cache, const char *key, const char *field,
                    struct cache_value *out_value)
{
    struct words words;
    enum err err = begin(cache, &words, "HGET", key);
    if (err != ERR_OK) {
        return err;
    }
    put(&words, field, strlen(field));
    return get(cache, &words, out_value);
}

/* Pairs of (name, value) or (member, score). */
static enum err list(struct cache *cache, const struct words *words, bool scores,
                     struct cache_list *out_list)
{
    CHECK(!cache->piping);
    redisReply *reply = NULL;
    enum err err = ask(cache, words, REDIS_REPLY_ARRAY, &reply);
    if (err != ERR_OK) {
        return err;
    }
    struct cache_list made = {0};
    size_t count = reply->elements / 2;
    if (count > CACHE_REPLY_MAX) {
        err = ERR_LIMIT;
        goto out;
    }
    made.items = calloc(count + 1, sizeof made.items[0]);
    if (made.items == NULL) {
        err = ERR_NO_MEMORY;
        goto out;
    }
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        struct cache_entry *entry = &made.items[made.count++];
        const redisReply *value = reply->element[2 * i + 1];
        err = copy_value(reply->element[2 * i], &entry->name);
        if (err == ERR_OK && scores) {
            entry->score = strtod(value->str, NULL);
        } else if (err == ERR_OK) {
            err = copy_value(value, &entry->value);
        }
    }
out:
    freeReplyObject(reply);
    if (err != ERR_OK) {
        cache_list_clear(&made);
        return err;
    }
    *out_list = made;
    return ERR_OK;
}

enum err cache_hgetall(struct cache *cache, const char *key, struct cache_list *out_list)
{
    struct words words;
    enum err err = begin(cache, &words, "HGETALL", key);
    return err == ERR_OK ? list(cache, &words, false, out_list) : err;
}

static enum err score(struct cache *cache, const char *command, const char *key, const char *member,
                      double value, int type)
{
    struct words words;
    char number[40];
    enum err err = begin(cache, &words, command, key);
    if (err != ERR_OK || strlen(member) > CACHE_KEY_MAX) {
        return ERR_LIMIT;
    }
    put(&words, number, (size_t)snprintf(number, sizeof number, "%.17g", value));
    put(&words, member, strlen(member));
    return tell(cache, &words, type);
}

enum err cache_zadd(struct cache *cache, const char *key, const char *member, double value)
{
    return score(cache, "ZADD", key, member, value, REDIS_REPLY_INTEGER);
}

enum err cache_zincr(struct cache *cache, const char *key, const char *member, double by)
{
    return score(cache, "ZINCRBY", key, member, by, REDIS_REPLY_STRING);
}

enum err cache_ztop(struct cache *cache, const char *key, size_t max, struct cache_list *out_list)
{
    CHECK(max >= 1 && max <= CACHE_REPLY_MAX);
    struct words words;
    char last[24];
    enum err err = begin(cache, &words, "ZREVRANGE", key);
    if (err != ERR_OK) {
        return err;
    }
    put(&words, "0", 1);
    put(&words, last, (size_t)snprintf(last, sizeof last, "%zu", max - 1));
    put(&words, "WITHSCORES", 10);
    return list(cache, &words, true, out_list);
}
