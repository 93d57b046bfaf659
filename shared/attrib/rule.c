/* rule.c - the published rule: from evidence to shares in parts of a billion; see README.md.
 *
 * Each witness has half of the whole to give and keeps what no one earned:
 *   influence  earned part = (significant positive energy / all energy) * (what is left after
 *              contributors' negative evidence); divided by each contributor's summed z
 *   spans      earned part = credited tokens / answer tokens; a span in rows of d contributors is
 *              credited 1/d of its tokens, in equal parts to them
 * Both divisions are integers with largest remainders, ties to the smaller account. */
#include <stdlib.h>
#include <string.h>

#include "shared/attrib/measure.h"
#include "shared/base/amount.h"
#include "shared/base/check.h"
#include "shared/lm/philox.h"

#define HALF_PPB 500000000U               /* each witness's half of ATTRIB_WHOLE_PPB */
#define SIGNIFICANT 4.0                   /* z: one false alarm in about 30,000 normal rows */
#define Z_MAX 1e6                         /* larger is as good as this */
#define WEIGHT_UNIT 65536.0               /* of a z-score as an integer weight */
#define TOKEN_CREDIT UINT64_C(1000000000) /* of one token in a span of one contributor */

_Static_assert(2 * HALF_PPB == ATTRIB_WHOLE_PPB, "two halves");
_Static_assert(ATTRIB_ROWS_MAX <= AMOUNT_SPLIT_MAX, "every contributor must fit one split");

/* Everything the division needs, one allocation family. */
struct sheet {
    uint32_t *owner;         /* per row */
    uint64_t *row_credit;    /* per row: span credit */
    double *row_weight;      /* per row: significant positive z */
    double *evidence;        /* per account: summed significant z, before clipping */
    double *positive;        /* per account: summed significant positive z */
    uint64_t *weights;       /* per account: influence, as integers */
    uint64_t *credit;        /* per account: span credit */
    uint32_t *rows_here;     /* per account: rows that hold the span at hand */
    struct amount *parts;    /* per account: scratch */
    uint32_t *influence_ppb; /* per account */
    uint32_t *span_ppb;      /* per account */
};

static void sheet_deinit(struct sheet *sheet)
{
    free(sheet->owner);
    free(sheet->row_credit);
    free(sheet->row_weight);
    free(sheet->evidence);
    free(sheet->positive);
    free(sheet->weights);
    free(sheet->credit);
    free(sheet->rows_here);
    free(sheet->parts);
    free(sheet->influence_ppb);
    free(sheet->span_ppb);
}

static enum err sheet_init(struct sheet *sheet, uint32_t rows, uint32_t accounts)
{
    *sheet = (struct sheet){
        .owner = calloc(rows, sizeof *sheet->owner),
        .row_credit = calloc(rows, sizeof *sheet->row_credit),
        .row_weight = calloc(rows, sizeof *sheet->row_weight),
        .evidence = calloc(accounts, sizeof *sheet->evidence),
        .positive = calloc(accounts, sizeof *sheet->positive),
        .weights = calloc(accounts, sizeof *sheet->weights),
        .credit = calloc(accounts, sizeof *sheet->credit),
        .rows_here = calloc(accounts, sizeof *sheet->rows_here),
        .parts = calloc(accounts, sizeof *sheet->parts),
        .influence_ppb = calloc(accounts, sizeof *sheet->influence_ppb),
        .span_ppb = calloc(accounts, sizeof *sheet->span_ppb),
    };
    bool ok = sheet->owner != NULL && sheet->row_credit != NULL && sheet->row_weight != NULL &&
              sheet->evidence != NULL && sheet->positive != NULL && sheet->weights != NULL &&
              sheet->credit != NULL && sheet->rows_here != NULL && sheet->parts != NULL &&
              sheet->influence_ppb != NULL && sheet->span_ppb != NULL;
    return ok ? ERR_OK : ERR_NO_MEMORY;
}

/* out[i] = account i's integer part of total by weights; all zero when no weight is. */
static enum err split(uint64_t total, const uint64_t *weights, uint32_t count,
                      struct amount *scratch, uint32_t *out)
{
    bool any = false;
    for (uint32_t i = 0; i < count; i++) {
        any = any || weights[i] != 0;
    }
    if (!any || total == 0) {
        return ERR_OK;
    }
    enum err err = amount_split(amount_from_units(total), weights, NULL, count, scratch);
    for (uint32_t i = 0; err == ERR_OK && i < count; i++) {
        out[i] = (uint32_t)scratch[i].low;
    }
    return err;
}

static enum err divide_influence(const struct attrib_index *index, const float *influence,
                                 struct sheet *sheet)
{
    double energy = 0.0;
    double significant = 0.0;
    double gross = 0.0;
    for (uint32_t row = 0; row < index->row_count; row++) {
        double z = (double)influence[row];
        z = z > Z_MAX ? Z_MAX : z;
        z = z < -Z_MAX ? -Z_MAX : z;
        uint32_t owner = sheet->owner[row];
        energy += z * z;
        if (z >= SIGNIFICANT) {
            significant += z * z;
            gross += z;
            sheet->row_weight[row] = z;
            sheet->positive[owner] += z;
            sheet->evidence[owner] += z;
        } else if (z <= -SIGNIFICANT) {
            sheet->evidence[owner] += z;
        }
    }
    double net = 0.0;
    for (uint32_t i = 0; i < index->account_count; i++) {
        if (sheet->evidence[i] > 0.0) {
            net += sheet->evidence[i];
            sheet->weights[i] = (uint64_t)(sheet->evidence[i] * WEIGHT_UNIT);
        }
    }
    if (gross <= 0.0) {
        return ERR_OK;
    }
    double earned = (significant / energy) * (net / gross);
    earned = earned > 1.0 ? 1.0 : earned;
    return split((uint64_t)(earned * (double)HALF_PPB), sheet->weights, index->account_count,
                 sheet->parts, sheet->influence_ppb);
}

/* Credits one span to the contributors whose rows hold it. Returns the sum of credits. */
static uint64_t credit_span(const struct spans_match *match, struct sheet *sheet)
{
    uint64_t holders = 0;
    for (uint32_t i = 0; i < match->place_count; i++) {
        uint32_t owner = sheet->owner[match->places[i].row];
        holders += sheet->rows_here[owner]++ == 0;
    }
    CHECK(holders > 0); /* a match stands somewhere */
    uint64_t each = match->length * TOKEN_CREDIT / (holders * holders);
    for (uint32_t i = 0; i < match->place_count; i++) {
        uint32_t row = match->places[i].row;
        sheet->row_credit[row] += each / sheet->rows_here[sheet->owner[row]];
    }
    for (uint32_t i = 0; i < match->place_count; i++) {
        uint32_t owner = sheet->owner[match->places[i].row];
        if (sheet->rows_here[owner] != 0) { /* once per contributor */
            sheet->credit[owner] += each;
            sheet->rows_here[owner] = 0;
        }
    }
    return each * holders;
}

static enum err divide_spans(const struct attrib_index *index, const struct attrib_measure *measure,
                             struct sheet *sheet)
{
    uint64_t credit = 0;
    for (uint32_t i = 0; i < measure->spans.count; i++) {
        credit += credit_span(&measure->spans.items[i], sheet);
    }
    uint64_t total = credit / (2 * (uint64_t)measure->answer_count);
    CHECK(total <= HALF_PPB);
    return split(total, sheet->credit, index->account_count, sheet->parts, sheet->span_ppb);
}

/* ---- evidence for people ---------------------------------------------------------------------- */

/* A row's part of its contributor's share; for display, so rounding down is fine. */
static uint32_t row_share(const struct sheet *sheet, uint32_t row)
{
    uint32_t owner = sheet->owner[row];
    double part = 0.0;
    if (sheet->positive[owner] > 0.0) {
        part +=
            (double)sheet->influence_ppb[owner] * sheet->row_weight[row] / sheet->positive[owner];
    }
    if (sheet->credit[owner] > 0) {
        part += (double)sheet->span_ppb[owner] * (double)sheet->row_credit[row] /
                (double)sheet->credit[owner];
    }
    return part >= (double)ATTRIB_WHOLE_PPB ? ATTRIB_WHOLE_PPB : (uint32_t)part;
}

static bool before(const struct attrib_evidence *a, const struct attrib_evidence *b)
{
    if (a->share_ppb != b->share_ppb) {
        return a->share_ppb > b->share_ppb;
    }
    if (a->influence > b->influence || a->influence < b->influence) {
        return a->influence > b->influence;
    }
    return a->row < b->row;
}

static void add_span(const struct attrib_measure *measure, struct attrib_evidence *evidence)
{
    for (uint32_t i = 0; i < measure->spans.count; i++) {
        const struct spans_match *match = &measure->spans.items[i];
        for (uint32_t p = 0; p < match->place_count; p++) {
            if (match->places[p].row == evidence->row && match->length > evidence->span_length) {
                evidence->span_start = match->start;
                evidence->span_length = match->length;
                evidence->span_row_at = match->places[p].at;
            }
        }
    }
}

/* The most important rows, in order: insertion into a short list. */
static void list_evidence(const struct attrib_index *index, const struct attrib_measure *measure,
                          const struct sheet *sheet, struct attrib_result *result)
{
    for (uint32_t row = 0; row < index->row_count; row++) {
        struct attrib_evidence item = {
            .row = row, .influence = measure->influence[row], .share_ppb = row_share(sheet, row)};
        if (item.share_ppb == 0 && !(item.influence > 0.0F)) {
            continue;
        }
        uint32_t at = result->evidence_count;
        while (at > 0 && before(&item, &result->evidence[at - 1])) {
            at--;
        }
        if (at == ATTRIB_EVIDENCE_MAX) {
            continue;
        }
        uint32_t kept = result->evidence_count < ATTRIB_EVIDENCE_MAX ? result->evidence_count
                                                                     : ATTRIB_EVIDENCE_MAX - 1;
        memmove(&result->evidence[at + 1], &result->evidence[at],
                (kept - at) * sizeof *result->evidence);
        result->evidence[at] = item;
        result->evidence_count = kept + 1;
    }
    for (uint32_t i = 0; i < result->evidence_count; i++) {
        add_span(measure, &result->evidence[i]);
    }
}

/* ---- the division ----------------------------------------------------------------------------- */

static enum err collect(const struct attrib_index *index, const struct sheet *sheet,
                        struct attrib_result *result)
{
    uint64_t paid = 0;
    result->shares = calloc(index->account_count, sizeof *result->shares);
    if (result->shares == NULL) {
        return ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < index->account_count; i++) {
        uint32_t share = sheet->influence_ppb[i] + sheet->span_ppb[i];
        if (share > 0) {
            result->shares[result->share_count++] =
                (struct attrib_share){.account = index->accounts[i],
                                      .share_ppb = share,
                                      .influence_ppb = sheet->influence_ppb[i],
                                      .span_ppb = sheet->span_ppb[i]};
            paid += share;
        }
    }
    CHECK(paid <= ATTRIB_WHOLE_PPB);
    result->unearned_ppb = ATTRIB_WHOLE_PPB - (uint32_t)paid;
    return ERR_OK;
}

/* order: NULL, or a permutation of the rows: row i then counts as order[i]'s contributor's. */
static enum err divide(const struct attrib_index *index, const struct attrib_measure *measure,
                       const uint32_t *order, struct attrib_result *out)
{
    struct sheet sheet;
    struct attrib_result result = {0};
    enum err err = sheet_init(&sheet, index->row_count, index->account_count);
    for (uint32_t row = 0; err == ERR_OK && row < index->row_count; row++) {
        sheet.owner[row] = index->rows[order == NULL ? row : order[row]].contributor;
    }
    if (err == ERR_OK) {
        err = divide_influence(index, measure->influence, &sheet);
    }
    if (err == ERR_OK) {
        err = divide_spans(index, measure, &sheet);
    }
    if (err == ERR_OK) {
        err = collect(index, &sheet, &result);
    }
    if (err == ERR_OK) {
        list_evidence(index, measure, &sheet, &result);
    }
    sheet_deinit(&sheet);
    if (err != ERR_OK) {
        attrib_result_deinit(&result);
        return err;
    }
    *out = result;
    return ERR_OK;
}

enum err attrib_divide(const struct attrib_index *index, const struct attrib_measure *measure,
                       struct attrib_result *out)
{
    return divide(index, measure, NULL, out);
}

enum err attrib_divide_shuffled(const struct attrib_index *index,
                                const struct attrib_measure *measure, uint64_t seed,
                                struct attrib_result *out)
{
    uint32_t *order = calloc(index->row_count, sizeof *order);
    if (order == NULL) {
        return ERR_NO_MEMORY;
    }
    philox_permutation(seed, PHILOX_PERMUTE, index->row_count, order);
    enum err err = divide(index, measure, order, out);
    free(order);
    return err;
}

void attrib_result_deinit(struct attrib_result *result)
{
    free(result->shares);
    *result = (struct attrib_result){0};
}

enum err attrib_shares(const struct attrib_index *index, const struct lm_model *model,
                       const struct lm_adapter *adapter, const struct attrib_question *question,
                       const struct parallel *parallel, struct attrib_result *out,
                       struct note *note)
{
    struct attrib_measure *measure = NULL;
    enum err err = attrib_measure_create(index, model, adapter, question, parallel, &measure, note);
    if (err == ERR_OK) {
        err = attrib_divide(index, measure, out);
    }
    attrib_measure_destroy(measure);
    return err;
}

static uint32_t share_of(const struct attrib_result *result, const struct account_id *account)
{
    for (uint32_t i = 0; i < result->share_count; i++) {
        if (account_id_equal(&result->shares[i].account, account)) {
            return result->shares[i].share_ppb;
        }
    }
    return 0;
}

enum err attrib_shuffle_control(const struct attrib_index *index,
                                const struct attrib_measure *measure,
                                const struct account_id *account, uint32_t repeats,
                                struct attrib_control *out)
{
    CHECK(repeats >= 1);
    struct attrib_result result;
    enum err err = attrib_divide(index, measure, &result);
    if (err != ERR_OK) {
        return err;
    }
    struct attrib_control control = {.share_ppb = share_of(&result, account)};
    attrib_result_deinit(&result);
    uint64_t sum = 0;
    for (uint32_t i = 0; err == ERR_OK && i < repeats; i++) {
        err = attrib_divide_shuffled(index, measure, i, &result);
        if (err == ERR_OK) {
            sum += share_of(&result, account);
            attrib_result_deinit(&result);
        }
    }
    if (err == ERR_OK) {
        control.shuffled_share_ppb = (uint32_t)(sum / repeats);
        *out = control;
    }
    return err;
}
