/* witnesses.c - see witnesses.h. */
#include "tests/sim/witnesses.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/proof.h"
#include "shared/platform/file.h"
#include "shared/tlog/witness.h"
#include "tests/sim/disk.h"
#include "tests/sim/inside.h"

enum {
    QUORUM = 2,
    TRUSTING = 2, /* this one executes nothing */
    SIZES_MAX = TRUTH_ENTRIES_MAX
};

static const uint32_t DISKS[WORK_WITNESSES] = {8, 9, 0};
static const char *const NAMES[WORK_WITNESSES] = {"w0.example", "w1.example", "w2.example"};

static struct witness {
    bool up;
    uint64_t restart_ms;
    struct tlog_seen seen;  /* as its program knows it */
    struct tlog_seen given; /* the largest that it gave away a cosignature of */
    uint64_t believed;      /* what the log thinks that it signed last */
} witnesses[WORK_WITNESSES];

static struct {
    uint64_t final;
    uint8_t
        signed_by[SIZES_MAX + 1]; /* bits of witnesses, for the one history's tree of that size */
    char origin[LEDGER_ORIGIN_SIZE];
    struct signed_note_key log;
    struct signed_note_key keys[WORK_WITNESSES];
} rounds;

/* ---- a witness's program ------------------------------------------------------------------------ */

static void path_of(size_t w, char out[32])
{
    (void)snprintf(out, 32, "sim:%u/checkpoint", DISKS[w]);
}

static void die(size_t w)
{
    if (sim_chance(500)) {
        disk_power_cut(DISKS[w]);
    } else {
        disk_kill(DISKS[w]);
    }
    witnesses[w].up = false;
    witnesses[w].restart_ms = sim.now_ms + 50 + sim_draw() % 1000;
    sim.report->witness_deaths++;
}

static void begin(size_t w)
{
    struct witness *witness = &witnesses[w];
    char path[32];
    struct buf text;
    struct bytes body;
    struct checkpoint checkpoint;
    struct note note = {""};
    path_of(w, path);
    buf_init(&text, SIGNED_NOTE_MAX);
    witness->seen = (struct tlog_seen){.size = 0};
    witness->up = true;
    enum err err = file_read(path, &text, &note);
    if (err == ERR_OK) {
        err = signed_note_verify(buf_bytes(&text), &rounds.log, 1, &body, &note);
        err = err ? err : checkpoint_parse(body, &checkpoint, NULL, &note);
        if (err != ERR_OK) {
            sim_fail("a witness cannot read what it signed", DISKS[w], note.text);
        } else {
            witness->seen = (struct tlog_seen){checkpoint.leaf_count, checkpoint.root};
        }
    }
    buf_deinit(&text);
}

/* The tree of that size in the one history; NULL: not executed so far yet. */
static const struct digest *root_of(uint64_t size)
{
    return size == 0 || size > sim.truth.height ? NULL : &sim.truth.headers_root[size - 1];
}

/* On disk first, then out of the house. */
static void sign(size_t w, const struct checkpoint *checkpoint, struct bytes signed_note)
{
    struct witness *witness = &witnesses[w];
    char path[32];
    struct buf out;
    path_of(w, path);
    if (file_write_atomic(path, signed_note, 0644, NULL) != ERR_OK || disk_dead(DISKS[w])) {
        die(w);
        return;
    }
    witness->seen = (struct tlog_seen){checkpoint->leaf_count, checkpoint->root};
    const struct digest *root = root_of(checkpoint->leaf_count);
    if (checkpoint->leaf_count < witness->given.size ||
        (checkpoint->leaf_count == witness->given.size &&
         !digest_equal(&checkpoint->root, &witness->given.root))) {
        sim_fail("a witness signs a tree that does not follow", DISKS[w], "");
    }
    /* Trees grow from the one history alone: what is said to begin with a fork does not. */
    const struct digest *before = root_of(witness->given.size);
    if (checkpoint->leaf_count > witness->given.size && witness->given.size > 0 &&
        (before == NULL || !digest_equal(before, &witness->given.root))) {
        sim_fail("a witness signs a tree that does not begin with the last", DISKS[w], "");
    }
    if (w != TRUSTING && (root == NULL || !digest_equal(root, &checkpoint->root))) {
        sim_fail("a witness signs a fork", DISKS[w], "");
    }
    witness->given = witness->seen;
    buf_init(&out, SIGNED_NOTE_MAX);
    CHECK(buf_append_bytes(&out, signed_note) == ERR_OK);
    CHECK(signed_note_cosign(signed_note, NAMES[w], sim.work->witnesses[w], 1 + sim.now_ms / 1000,
                             &out) == ERR_OK);
    if (sim.healed || !sim_chance(sim.loss)) {
        sim_push(
            (struct event){.kind = ANSWER, .node = (uint32_t)w, .data = sim_copy(buf_bytes(&out))},
            sim_delay());
    }
    buf_deinit(&out);
}

void witnesses_asked(size_t w, struct bytes body)
{
    struct witness *witness = &witnesses[w];
    struct tlog_request request;
    struct checkpoint checkpoint;
    struct note note = {""};
    if (!witness->up) {
        return;
    }
    CHECK(tlog_request_parse(body, &request, &note) == ERR_OK);
    enum tlog_verdict verdict =
        tlog_judge(&witness->seen, &request, &rounds.log, &checkpoint, &note);
    if (verdict == TLOG_SIGN && w != TRUSTING) {
        const struct digest *root = root_of(checkpoint.leaf_count);
        if (root == NULL && checkpoint.leaf_count > 0) {
            return; /* it does not have those entries yet */
        }
        verdict =
            root != NULL && digest_equal(root, &checkpoint.root) ? TLOG_SIGN : TLOG_INCONSISTENT;
    }
    sim.report->witness_refusals += verdict == TLOG_SIGN ? 0 : 1;
    if (verdict == TLOG_SIGN) {
        sign(w, &checkpoint, request.checkpoint);
    } else if (verdict == TLOG_CONFLICT && (sim.healed || !sim_chance(sim.loss))) {
        sim_push((struct event){.kind = ANSWER, .node = (uint32_t)w, .life = witness->seen.size},
                 sim_delay());
    }
}

/* ---- the log's side ----------------------------------------------------------------------------- */

static void send(size_t w, uint64_t old_size, struct merkle_leaves leaves, struct bytes checkpoint)
{
    struct tlog_request request = {.old_size = old_size, .checkpoint = checkpoint};
    struct buf body;
    if (old_size <= leaves.count) {
        CHECK(merkle_prove_consistency(leaves, old_size, &request.proof) == ERR_OK);
    }
    buf_init(&body, TLOG_REQUEST_MAX);
    CHECK(tlog_request_format(&request, &body) == ERR_OK);
    int copies = sim.healed || !sim_chance(sim.doubles) ? 1 : 2;
    for (int i = 0; i < copies; i++) {
        if (sim.healed || !sim_chance(sim.loss)) {
            sim_push((struct event){.kind = ASK,
                                    .node = (uint32_t)w,
                                    .data = sim_copy(buf_bytes(&body))},
                     sim_delay());
        }
    }
    buf_deinit(&body);
}

static void sign_and_send(size_t w, uint64_t old_size, struct merkle_leaves leaves)
{
    struct merkle_head head;
    struct ledger_head chain;
    struct buf note;
    buf_init(&note, SIGNED_NOTE_MAX);
    merkle_head(leaves, &head);
    ledger_head(sim.truth.witness, &chain);
    CHECK(ledger_checkpoint_sign(&chain.chain_id, leaves.count, &head.root,
                                 sim.work->world->sequencer, &note) == ERR_OK);
    send(w, old_size, leaves, buf_bytes(&note));
    buf_deinit(&note);
}

/* A sequencer gone bad signs another last block, or an older tree, with a proof that fits. */
static void deceive(size_t w)
{
    static struct digest leaves[TRUTH_ENTRIES_MAX];
    uint64_t height = sim.truth.height;
    uint64_t size = 1 + sim_draw() % (height + 1);
    memcpy(leaves, sim.truth.headers, height * sizeof *leaves);
    if (sim_chance(600)) {
        size = sim_chance(500) ? height : size;
        leaves[size - 1] = (struct digest){{0xbd, (uint8_t)sim_draw()}};
        sim.report->forks++;
    } else {
        size = size > height ? height : size;
    }
    uint64_t old = witnesses[w].believed;
    old = old > size || sim_chance(300) ? sim_draw() % (size + 1) : old;
    sign_and_send(w, old, (struct merkle_leaves){leaves, size});
}

static void ask(size_t w)
{
    struct node *node = &sim.node[1 + sim_draw() % sim.nodes];
    unsigned long long size = 0;
    char text[160] = "";
    if (!node->up || node->replica == NULL || replica_settlement(node->replica) == NULL) {
        return;
    }
    struct bytes note = settlement_checkpoint(replica_settlement(node->replica));
    memcpy(text, note.data == NULL ? (const uint8_t *)"" : note.data,
           note.size < sizeof text ? note.size : sizeof text - 1);
    const char *line = strchr(text, '\n');
    size = line == NULL ? 0 : strtoull(line + 1, NULL, 10);
    if (size > 0 && size <= sim.truth.height && (size >= witnesses[w].believed || sim_chance(50))) {
        send(w, witnesses[w].believed, (struct merkle_leaves){sim.truth.headers, size}, note);
    }
}

static uint32_t count_of(uint8_t bits)
{
    return (uint32_t)__builtin_popcount(bits);
}

void witnesses_answered(size_t w, struct bytes signed_note, uint64_t size)
{
    struct bytes body;
    struct checkpoint checkpoint;
    bool signed_by[WORK_WITNESSES] = {false};
    struct note note = {""};
    if (signed_note.size == 0) {
        witnesses[w].believed = size;
        return;
    }
    if (signed_note_check(signed_note, rounds.keys, WORK_WITNESSES, signed_by, &body, &note) !=
            ERR_OK ||
        checkpoint_parse(body, &checkpoint, NULL, &note) != ERR_OK || !signed_by[w]) {
        sim_fail("a cosignature does not verify", DISKS[w], note.text);
        return;
    }
    witnesses[w].believed = checkpoint.leaf_count;
    const struct digest *root = root_of(checkpoint.leaf_count);
    if (root == NULL || !digest_equal(root, &checkpoint.root)) {
        return; /* one fooled witness makes nothing final */
    }
    uint8_t *bits = &rounds.signed_by[checkpoint.leaf_count];
    *bits |= (uint8_t)(1U << w);
    if (count_of(*bits) >= QUORUM && checkpoint.leaf_count > rounds.final) {
        rounds.final = checkpoint.leaf_count;
        sim.report->finals++;
    }
}

/* ---- steps -------------------------------------------------------------------------------------- */

void witnesses_start(void)
{
    struct ledger_head head;
    memset(witnesses, 0, sizeof witnesses);
    memset(&rounds, 0, sizeof rounds);
    ledger_head(sim.truth.witness, &head);
    (void)ledger_origin(&head.chain_id, rounds.origin);
    rounds.log = (struct signed_note_key){rounds.origin, SIGNED_NOTE_PLAIN,
                                          *key_pair_public(sim.work->world->sequencer)};
    for (size_t w = 0; w < WORK_WITNESSES; w++) {
        rounds.keys[w] = (struct signed_note_key){NAMES[w], SIGNED_NOTE_COSIGNATURE,
                                                  *key_pair_public(sim.work->witnesses[w])};
        begin(w);
    }
}

void witnesses_step(void)
{
    for (size_t w = 0; w < WORK_WITNESSES; w++) {
        struct witness *witness = &witnesses[w];
        if (!witness->up && sim.now_ms >= witness->restart_ms) {
            begin(w);
        }
        if (!sim.healed && witness->up && sim_chance(8)) {
            disk_die_after(DISKS[w], (uint32_t)(sim_draw() % 6));
        }
        if (disk_dead(DISKS[w]) && witness->up) {
            die(w);
        } else if (!sim.healed && sim.truth.height > 0 && sim_chance(30)) {
            deceive(w);
        } else if (sim.healed || sim_chance(400)) {
            ask(w);
        }
    }
}

bool witnesses_done(void)
{
    return rounds.final == sim.truth.height;
}
