/* metrics.c - see metrics.h. Registration takes a lock; updates are single atomic operations. */
#include "shared/base/metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"

enum kind { KIND_COUNTER, KIND_GAUGE, KIND_HISTOGRAM };

struct metric {
    enum kind kind;
    const char *name;
    char *labels;
    const char *help;
    const double *bounds;
    size_t bound_count;
    _Atomic uint64_t count;                        /* of additions or observations */
    _Atomic double value;                          /* gauge, or the histogram's sum */
    _Atomic uint64_t buckets[METRICS_BUCKETS_MAX]; /* not cumulative */
};

struct metrics {
    pthread_mutex_t lock;
    struct metric *items[METRICS_MAX];
    size_t count;
};

const double METRICS_SECONDS[] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                  0.25,   0.5,   1,      2.5,   5,    10,    30,   60};
const size_t METRICS_SECONDS_COUNT = sizeof METRICS_SECONDS / sizeof METRICS_SECONDS[0];

struct metrics *metrics_create(void)
{
    struct metrics *metrics = calloc(1, sizeof *metrics);
    if (metrics != NULL) {
        (void)pthread_mutex_init(&metrics->lock, NULL);
    }
    return metrics;
}

void metrics_destroy(struct metrics *metrics)
{
    if (metrics == NULL) {
        return;
    }
    for (size_t i = 0; i < metrics->count; i++) {
        free(metrics->items[i]->labels);
        free(metrics->items[i]);
    }
    (void)pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}

static struct metric *add(struct metrics *metrics, const struct metric *like, const char *labels)
{
    CHECK(labels != NULL);
    (void)pthread_mutex_lock(&metrics->lock);
    struct metric *metric = NULL;
    for (size_t i = 0; i < metrics->count; i++) {
        struct metric *other = metrics->items[i];
        if (strcmp(other->name, like->name) == 0) {
            CHECK(other->kind == like->kind);
            metric = strcmp(other->labels, labels) == 0 ? other : metric;
        }
    }
    if (metric == NULL) {
        CHECK(metrics->count < METRICS_MAX);
        metric = calloc(1, sizeof *metric);
        CHECK(metric != NULL); /* at start-up, with nothing to fall back to */
        metric->kind = like->kind;
        metric->name = like->name;
        metric->help = like->help;
        metric->bounds = like->bounds;
        metric->bound_count = like->bound_count;
        metric->labels = strdup(labels);
        CHECK(metric->labels != NULL);
        metrics->items[metrics->count++] = metric;
    }
    (void)pthread_mutex_unlock(&metrics->lock);
    return metric;
}

struct metric *metrics_counter(struct metrics *metrics, const char *name, const char *labels,
                               const char *help)
{
    struct metric like = {.kind = KIND_COUNTER, .name = name, .help = help};
    return add(metrics, &like, labels);
}

struct metric *metrics_gauge(struct metrics *metrics, const char *name, const char *labels,
                             const char *help)
{
    struct metric like = {.kind = KIND_GAUGE, .name = name, .help = help};
    return add(metrics, &like, labels);
}

struct metric *metrics_histogram(struct metrics *metrics, const char *name, const char *labels,
                                 const char *help, const double *bounds, size_t count)
{
    CHECK(count >= 1);
    CHECK(count <= METRICS_BUCKETS_MAX);
    struct metric like = {
        .kind = KIND_HISTOGRAM, .name = name, .help = help, .bounds = bounds, .bound_count = count};
    return add(metrics, &like, labels);
}

void metric_add(struct metric *counter, uint64_t count)
{
    CHECK(counter->kind == KIND_COUNTER);
    (void)atomic_fetch_add_explicit(&counter->count, count, memory_order_relaxed);
}

void metric_set(struct metric *gauge, double value)
{
    CHECK(gauge->kind == KIND_GAUGE);
    atomic_store_explicit(&gauge->value, value, memory_order_relaxed);
}

void metric_observe(struct metric *histogram, double value)
{
    CHECK(histogram->kind == KIND_HISTOGRAM);
    size_t i = 0;
    while (i < histogram->bound_count && !(value <= histogram->bounds[i])) {
        i++;
    }
    if (i < histogram->bound_count) {
        (void)atomic_fetch_add_explicit(&histogram->buckets[i], 1, memory_order_relaxed);
    }
    (void)atomic_fetch_add_explicit(&histogram->count, 1, memory_order_relaxed);
    double sum = atomic_load_explicit(&histogram->value, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&histogram->value, &sum, sum + value,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

double metric_value(const struct metric *metric)
{
    return metric->kind == KIND_GAUGE
               ? atomic_load_explicit(&metric->value, memory_order_relaxed)
               : (double)atomic_load_explicit(&metric->count, memory_order_relaxed);
}

/* name_suffix{labels,extra} */
static void write_name(const struct metric *metric, const char *suffix, const char *extra,
                       struct buf *out)
{
    (void)buf_printf(out, "%s%s", metric->name, suffix);
    const char *comma = metric->labels[0] != '\0' && extra[0] != '\0' ? "," : "";
    if (metric->labels[0] != '\0' || extra[0] != '\0') {
        (void)buf_printf(out, "{%s%s%s}", metric->labels, comma, extra);
    }
}

static void write_metric(const struct metric *metric, struct buf *out)
{
    uint64_t count = atomic_load_explicit(&metric->count, memory_order_relaxed);
    double value = atomic_load_explicit(&metric->value, memory_order_relaxed);
    if (metric->kind == KIND_COUNTER) {
        write_name(metric, "", "", out);
        (void)buf_printf(out, " %llu\n", (unsigned long long)count);
        return;
    }
    if (metric->kind == KIND_GAUGE) {
        write_name(metric, "", "", out);
        (void)buf_printf(out, " %.17g\n", value);
        return;
    }
    uint64_t below = 0;
    for (size_t i = 0; i < metric->bound_count; i++) {
        char le[48];
        (void)snprintf(le, sizeof le, "le=\"%g\"", metric->bounds[i]);
        below += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
        write_name(metric, "_bucket", le, out);
        (void)buf_printf(out, " %llu\n", (unsigned long long)below);
    }
    count = count < below ? below : count; /* an observation may be half counted */
    write_name(metric, "_bucket", "le=\"+Inf\"", out);
    (void)buf_printf(out, " %llu\n", (unsigned long long)count);
    write_name(metric, "_sum", "", out);
    (void)buf_printf(out, " %.17g\n", value);
    write_name(metric, "_count", "", out);
    (void)buf_printf(out, " %llu\n", (unsigned long long)count);
}

enum err metrics_write(struct metrics *metrics, struct buf *out)
{
    static const char *const KIND[] = {"counter", "gauge", "histogram"};
    (void)pthread_mutex_lock(&metrics->lock);
    for (size_t i = 0; i < metrics->count; i++) {
        const struct metric *first = metrics->items[i];
        bool seen = false; /* its name's lines were written with an earlier metric */
        for (size_t k = 0; k < i && !seen; k++) {
            seen = strcmp(metrics->items[k]->name, first->name) == 0;
        }
        if (seen) {
            continue;
        }
        (void)buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", first->name, first->help, first->name,
                         KIND[first->kind]);
        for (size_t k = i; k < metrics->count; k++) {
            if (strcmp(metrics->items[k]->name, first->name) == 0) {
                write_metric(metrics->items[k], out);
            }
        }
    }
    (void)pthread_mutex_unlock(&metrics->lock);
    return buf_err(out);
}
