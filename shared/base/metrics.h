/* metrics.h - counters, gauges and fixed histograms, printed as Prometheus text.
 *
 * A program makes one table in main and registers what it counts there; updating is one atomic
 * operation from any thread. Registering the same (name, labels) twice gives the same metric.
 *
 * Labels are ready text from a fixed set of ours, e.g. "method=\"Chat\"", or "". Never make a label
 * from foreign input: past METRICS_MAX, registering CHECKs. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/err.h"

#define METRICS_MAX 1024         /* metrics in one table */
#define METRICS_BUCKETS_MAX 24   /* upper bounds of one histogram, without +Inf */
#define METRICS_TEXT_MAX 1048576 /* a fitting limit for the buf given to metrics_write */

struct metrics;
struct metric; /* owned by its table, valid until metrics_destroy */

MUST_USE struct metrics *metrics_create(void); /* NULL: out of memory */
void metrics_destroy(struct metrics *metrics);

/* name: [a-z_]+, unit last ("_total", "_seconds", "_bytes"). name and help are static text; labels
 * are copied. Same name with another kind CHECKs. Any thread. */
struct metric *metrics_counter(struct metrics *metrics, const char *name, const char *labels,
                               const char *help);
struct metric *metrics_gauge(struct metrics *metrics, const char *name, const char *labels,
                             const char *help);
/* bounds: ascending upper bounds, static; count 1..METRICS_BUCKETS_MAX. */
struct metric *metrics_histogram(struct metrics *metrics, const char *name, const char *labels,
                                 const char *help, const double *bounds, size_t count);

/* Latency in seconds, from 0.5 ms to 60 s: what most histograms want. */
extern const double METRICS_SECONDS[];
extern const size_t METRICS_SECONDS_COUNT;

void metric_add(struct metric *counter, uint64_t count);
void metric_set(struct metric *gauge, double value);
void metric_observe(struct metric *histogram, double value);

/* Current count (counter), value (gauge) or number of observations (histogram): for tests. */
double metric_value(const struct metric *metric);

/* Appends the table in Prometheus text format 0.0.4, in order of registration with one HELP/TYPE
 * per name. Errors as buf. */
enum err metrics_write(struct metrics *metrics, struct buf *out);
