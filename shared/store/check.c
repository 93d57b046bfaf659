/* check.c - see check.h. Numbers are little-endian, as on every machine that this runs on. */
#include "shared/store/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "shared/platform/file.h"
#include "shared/store/store.h"

enum {
    PAGE_HEADER =
        16, /* number u64, pad u16, flags u16, lower u16, upper u16; or, of an overflow, pages u32 */
    NODE_HEADER = 8, /* size or child u32, flags u16, key size u16 */
    PAGE_BRANCH = 1,
    PAGE_LEAF = 2,
    PAGE_OVERFLOW = 4,
    NODE_BIG = 1,   /* the value is the number of an overflow page */
    NODE_TABLE = 2, /* the value is a table's head */
    PAGE_SIZE_MIN = 512,
    PAGE_SIZE_MAX = 32768,
    DEPTH_MAX = 32, /* LMDB's own */
    META_SIZE = 136,
    META_MAGIC = 0,
    META_FREE = 24, /* the heads of two tables: free pages, names */
    META_NAMES = 72,
    META_LAST_PAGE = 120,
    META_TXN = 128,
    HEAD_SIZE = 48,
    HEAD_FLAGS = 4, /* in a head: only a list of free pages has any, for its keys are numbers */
    HEAD_DEPTH = 6,
    HEAD_PAIRS = 32,
    HEAD_ROOT = 40,
    NUMBER_KEYS = 8
};
static const uint32_t MAGIC = 0xbeefc0de;

enum tree { TREE_FREE, TREE_NAMES, TREE_TABLE };

struct walk {
    struct file_map map;
    uint32_t page_size;
    uint64_t pages;           /* that the file may have in use */
    uint64_t txn;             /* that wrote the newest meta page */
    uint8_t *used;            /* a bit for each */
    uint64_t page;            /* being looked at */
    struct bytes last;        /* of this tree: the leaf's key met last, */
    struct bytes least;       /* and the branch's, below which no next one is */
    uint64_t pairs;           /* met in this tree */
    const char *const *names; /* that a table may have */
    uint32_t name_count;
    uint8_t heads[STORE_TABLES_MAX][HEAD_SIZE]; /* of the named tables, as they are met */
    uint32_t head_count;
    struct note *note;
};

struct node {
    struct bytes key, value; /* of a leaf */
    uint64_t child;          /* of a branch */
    uint16_t flags;
};

static uint64_t number(const uint8_t *at, size_t size)
{
    uint64_t value = 0;
    for (size_t i = size; i > 0; i--) {
        value = value << 8 | at[i - 1];
    }
    return value;
}

static enum err damaged(const struct walk *walk, const char *why)
{
    return note_set(walk->note, ERR_CORRUPT, "page %" PRIu64 " is damaged: %s", walk->page, why);
}

static const uint8_t *page_at(const struct walk *walk, uint64_t page)
{
    return walk->map.data + page * walk->page_size;
}

/* Nobody else may have these pages, and the file must have them. */
static enum err use(struct walk *walk, uint64_t first, uint64_t count)
{
    walk->page = first;
    if (first < 2 || first >= walk->pages || count == 0 || count > walk->pages - first) {
        return damaged(walk, "it is beyond the last");
    }
    if ((first + count) * walk->page_size > walk->map.size) {
        return damaged(walk, "the file ends before it");
    }
    for (uint64_t page = first; page < first + count; page++) {
        if ((walk->used[page / 8] & 1U << (page % 8)) != 0) {
            return damaged(walk, "it is in use twice");
        }
        walk->used[page / 8] |= (uint8_t)(1U << (page % 8));
    }
    return ERR_OK;
}

/* A free page need not be in the file, but it must be nobody's. */
static enum err use_free(struct walk *walk, struct bytes list)
{
    uint64_t count = list.size < 8 ? 0 : number(list.data, 8);
    uint64_t before = walk->pages;
    if (list.size < 8 || count > list.size / 8 - 1) {
        return damaged(walk, "its list of free pages is cut short");
    }
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t page = number(list.data + 8 * i, 8);
        if (page < 2 || page >= before || (walk->used[page / 8] & 1U << (page % 8)) != 0) {
            return damaged(walk, "it frees a page that is in use, or that there is not");
        }
        walk->used[page / 8] |= (uint8_t)(1U << (page % 8));
        before = page;
    }
    return ERR_OK;
}

/* A value of that size in overflow pages; in: their number, out: the value. A larger value may have been there
 * before it, whose pages it keeps. */
static enum err large_value(struct walk *walk, uint64_t size, struct bytes *value)
{
    uint64_t owner = walk->page;
    uint64_t first = number(value->data, 8);
    enum err err = use(walk, first, 1);
    if (err != ERR_OK) {
        return err;
    }
    const uint8_t *page = page_at(walk, first);
    uint64_t count = number(page + 12, 4);
    if (number(page, 8) != first || number(page + 10, 2) != PAGE_OVERFLOW ||
        PAGE_HEADER + size > count * walk->page_size) {
        return damaged(walk, "it does not hold the large value that is said to be there");
    }
    err = count > 1 ? use(walk, first + 1, count - 1) : ERR_OK;
    *value = bytes_of(page + PAGE_HEADER, (size_t)size);
    walk->page = owner;
    return err;
}

/* Node i of a page; its value is read through to the overflow pages. */
static enum err node_at(struct walk *walk, const uint8_t *page, size_t i, bool branch,
                        struct node *out)
{
    size_t at = (size_t)number(page + PAGE_HEADER + 2 * i, 2);
    size_t upper = (size_t)number(page + 14, 2);
    if (at < upper || at % 2 != 0 || at + NODE_HEADER > walk->page_size) {
        return damaged(walk, "a node is outside of it");
    }
    const uint8_t *node = page + at;
    size_t key_size = (size_t)number(node + 6, 2);
    size_t room = walk->page_size - at - NODE_HEADER;
    *out = (struct node){.flags = (uint16_t)number(node + 4, 2)};
    if (key_size > STORE_KEY_MAX || key_size > room) {
        return damaged(walk, "a key is too long");
    }
    out->key = bytes_of(node + NODE_HEADER, key_size);
    if (branch) {
        out->child = number(node, 6);
        return ERR_OK;
    }
    uint64_t size = number(node, 4);
    if (out->flags > NODE_TABLE) {
        return damaged(walk, "a node is of an unknown kind");
    }
    uint64_t here = (out->flags & NODE_BIG) != 0 ? 8 : size;
    if (here > room - key_size) {
        return damaged(walk, "a value is outside of it");
    }
    out->value = bytes_of(node + NODE_HEADER + key_size, (size_t)here);
    return (out->flags & NODE_BIG) == 0 ? ERR_OK : large_value(walk, size, &out->value);
}

/* Absent keys have no bytes and are below all others. */
static int key_compare(enum tree tree, struct bytes a, struct bytes b)
{
    if (tree == TREE_FREE) {
        uint64_t left = number(a.data, a.size);
        uint64_t right = number(b.data, b.size);
        return (left > right) - (left < right);
    }
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size == 0 ? 0 : memcmp(a.data, b.data, size);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

/* What a leaf's node is for. */
static enum err leaf_node(struct walk *walk, enum tree tree, const struct node *node)
{
    bool table = (node->flags & NODE_TABLE) != 0;
    if (table != (tree == TREE_NAMES) || (table && node->value.size != HEAD_SIZE)) {
        return damaged(walk, "a value is not of its table's kind");
    }
    walk->pairs++;
    if (tree == TREE_FREE) {
        return use_free(walk, node->value);
    }
    if (tree == TREE_TABLE) {
        struct bytes value = node->value;
        return store_unseal(node->key, &value) ? ERR_OK
                                               : damaged(walk, "a value or its key was changed");
    }
    uint32_t name = 0;
    while (name < walk->name_count && !bytes_equal(node->key, bytes_of_text(walk->names[name]))) {
        name++;
    }
    if (name == walk->name_count) {
        return damaged(walk, "a table has a name that is not ours");
    }
    memcpy(walk->heads[walk->head_count++], node->value.data, HEAD_SIZE); /* names differ */
    return ERR_OK;
}

/* The key that comes next, of a leaf, or of a branch: what follows is not before it. */
static enum err next_key(struct walk *walk, enum tree tree, struct bytes key, bool branch)
{
    if (tree == TREE_FREE && (key.size != 8 || number(key.data, 8) > walk->txn)) {
        return damaged(walk, "it frees pages of no transaction");
    }
    if (key_compare(tree, walk->last, key) >= 0 ||
        (!branch && key_compare(tree, walk->least, key) > 0)) {
        return damaged(walk, "its keys do not ascend");
    }
    *(branch ? &walk->least : &walk->last) = key;
    return ERR_OK;
}

/* Do the nodes, which begin where the bits say, fill the page from upper to its end without overlap? */
static bool nodes_tile(struct walk *walk, const uint8_t *page, bool branch, size_t upper,
                       size_t count, const uint8_t *starts)
{
    size_t at = upper;
    for (; count > 0 && at + NODE_HEADER <= walk->page_size; count--) {
        const uint8_t *node = page + at;
        size_t value = branch ? 0 : (size_t)number(node, 4);
        if ((starts[at / 16] & 1U << (at / 2 % 8)) == 0) {
            return false;
        }
        value = !branch && (number(node + 4, 2) & NODE_BIG) != 0 ? 8 : value;
        at += (NODE_HEADER + (size_t)number(node + 6, 2) + value + 1) / 2 * 2;
    }
    return count == 0 && at == walk->page_size;
}

/* Looks at a page of a tree and gives how many nodes it has. level: 1 is the leaves'. */
static enum err page_check(struct walk *walk, enum tree tree, uint64_t at, uint32_t level,
                           size_t *out_count)
{
    uint8_t starts[PAGE_SIZE_MAX / 16]; /* a bit for each place that a node may begin at */
    enum err err = use(walk, at, 1);
    if (err != ERR_OK) {
        return err;
    }
    const uint8_t *page = page_at(walk, at);
    bool branch = level > 1;
    size_t lower = (size_t)number(page + 12, 2);
    size_t upper = (size_t)number(page + 14, 2);
    size_t least = branch && tree != TREE_FREE ? 2 : 1;
    if (number(page, 8) != at || number(page + 10, 2) != (branch ? PAGE_BRANCH : PAGE_LEAF) ||
        lower < PAGE_HEADER + 2 * least || lower % 2 != 0 || lower > upper || upper % 2 != 0 ||
        upper > walk->page_size) {
        return damaged(walk, "it is not the page that its place wants");
    }
    size_t count = (lower - PAGE_HEADER) / 2;
    memset(starts, 0, walk->page_size / 16);
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        struct node node = {.key = {.size = 0}};
        err = node_at(walk, page, i, branch, &node);
        if (err == ERR_OK) {
            size_t start = (size_t)number(page + PAGE_HEADER + 2 * i, 2);
            starts[start / 16] |= (uint8_t)(1U << (start / 2 % 8));
        }
        if (err == ERR_OK && !branch) {
            err = next_key(walk, tree, node.key, false);
            err = err ? err : leaf_node(walk, tree, &node);
        }
    }
    if (err == ERR_OK && !nodes_tile(walk, page, branch, upper, count, starts)) {
        err = damaged(walk, "its nodes overlap");
    }
    *out_count = count;
    return err;
}

/* All pages of the tree with that head, in the order of their keys. */
static enum err tree_check(struct walk *walk, enum tree tree, const uint8_t head[HEAD_SIZE])
{
    struct {
        uint64_t page;
        size_t next, count;
    } path[DEPTH_MAX] = {{.page = 0}};
    uint32_t depth = (uint32_t)number(head + HEAD_DEPTH, 2);
    uint64_t root = number(head + HEAD_ROOT, 8);
    bool empty = root == UINT64_MAX;
    if (number(head + HEAD_FLAGS, 2) != (tree == TREE_FREE ? NUMBER_KEYS : 0)) {
        return damaged(walk, "a tree's keys are of another kind");
    }
    if (!empty && (depth == 0 || depth > DEPTH_MAX)) {
        return damaged(walk, "a tree's depth is not possible");
    }
    uint32_t top = 0;
    walk->last = walk->least = bytes_of(NULL, 0);
    walk->pairs = 0;
    path[0].page = root;
    enum err err = empty ? ERR_OK : page_check(walk, tree, root, depth, &path[0].count);
    while (err == ERR_OK && !empty) {
        if (depth - top == 1 || path[top].next == path[top].count) { /* done with this one */
            if (top == 0) {
                break;
            }
            top--;
            continue;
        }
        struct node node = {.child = 0};
        size_t i = path[top].next++;
        walk->page = path[top].page;
        err = node_at(walk, page_at(walk, path[top].page), i, true, &node);
        if (err == ERR_OK && i > 0) { /* the first has no key */
            err = next_key(walk, tree, node.key, true);
        }
        if (err == ERR_OK) {
            top++;
            path[top].page = node.child;
            path[top].next = 0;
            err = page_check(walk, tree, node.child, depth - top, &path[top].count);
        }
    }
    return err == ERR_OK && walk->pairs != number(head + HEAD_PAIRS, 8)
               ? damaged(walk, "a tree has not as many pairs as it says")
               : err;
}

/* The newest of two meta pages: transactions write them in turn. NULL: not a store's. */
static const uint8_t *meta_of(struct walk *walk)
{
    const uint8_t *first = walk->map.data + PAGE_HEADER;
    if (walk->map.size < PAGE_SIZE_MIN || number(first + META_MAGIC, 4) != MAGIC) {
        return NULL;
    }
    uint64_t page_size = number(first + META_FREE, 4);
    if (page_size < PAGE_SIZE_MIN || page_size > PAGE_SIZE_MAX ||
        (page_size & (page_size - 1)) != 0 || walk->map.size < 2 * page_size) {
        return NULL;
    }
    walk->page_size = (uint32_t)page_size;
    const uint8_t *second = first + page_size;
    if (number(second + META_MAGIC, 4) != MAGIC || number(second + META_FREE, 4) != page_size) {
        return NULL;
    }
    uint64_t even = number(first + META_TXN, 8);
    uint64_t odd = number(second + META_TXN, 8);
    bool first_newer = even > odd || odd == 0;
    walk->txn = first_newer ? even : odd;
    if (walk->txn != 0 &&
        (even % 2 != 0 || (first_newer ? even - odd : odd - even) != 1)) { /* 0: it is new */
        return NULL;
    }
    return first_newer ? first : second;
}

static enum err walk_all(struct walk *walk)
{
    const uint8_t *meta = meta_of(walk);
    if (meta == NULL) {
        return damaged(walk, "it is not the first of a store");
    }
    /* Free pages at the end need not be in the file: beyond four times of it no file of ours goes. */
    uint64_t last = number(meta + META_LAST_PAGE, 8);
    if (last < 1 || last > 4 * (walk->map.size / walk->page_size) + 1024) {
        return damaged(walk, "the number of pages is not possible");
    }
    walk->pages = last + 1;
    walk->used = calloc(1, (size_t)(walk->pages / 8 + 1));
    if (walk->used == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = tree_check(walk, TREE_NAMES, meta + META_NAMES);
    for (uint32_t i = 0; i < walk->head_count && err == ERR_OK; i++) {
        err = tree_check(walk, TREE_TABLE, walk->heads[i]);
    }
    return err ? err
               : tree_check(walk, TREE_FREE,
                            meta + META_FREE); /* last: all that is used is known */
}

enum err store_check(const char *path, const char *const *names, uint32_t name_count,
                     struct note *note)
{
    struct walk walk = {.names = names, .name_count = name_count, .note = note};
    enum err err = file_map_open(path, &walk.map, note);
    if (err == ERR_NOT_FOUND || (err == ERR_OK && walk.map.size == 0)) {
        return ERR_OK;
    }
    err = err ? err : walk_all(&walk);
    free(walk.used);
    file_map_close(&walk.map);
    return err;
}

/* Each step is a bijection of the words so far, so that one changed word always changes the 64 bits. */
static uint64_t mix(uint64_t sum, struct bytes bytes)
{
    static const uint64_t ODD = 0x9e3779b97f4a7c15; /* 2^64 / golden ratio */
    sum = (sum ^ bytes.size) * ODD;
    for (size_t at = 0; at < bytes.size; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        size_t left = bytes.size - at;
        memcpy(&word, bytes.data + at, left < sizeof word ? left : sizeof word);
        sum = (sum ^ word) * ODD;
        sum ^= sum >> 32;
    }
    return sum;
}

void store_seal(struct bytes key, struct bytes value, uint8_t out_seal[STORE_SEAL])
{
    uint32_t sum = (uint32_t)mix(mix(0, key), value);
    memcpy(out_seal, &sum, STORE_SEAL);
}

bool store_unseal(struct bytes key, struct bytes *value)
{
    uint8_t seal[STORE_SEAL];
    if (value->size < STORE_SEAL) {
        return false;
    }
    value->size -= STORE_SEAL;
    store_seal(key, *value, seal);
    return memcmp(seal, value->data + value->size, STORE_SEAL) == 0;
}
