/* registry.c - see registry.h. Each kind of record is one row of KINDS: how to walk it, what text a
 * search looks at, how to make its message. */
#include "services/registry/registry.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"

typedef const void *walk(const struct ledger *ledger, const void *previous);
typedef const char *text_of(const void *record, uint32_t part);
typedef ProtobufCMessage *make(const struct ledger *ledger, const void *record,
                               struct arena *arena);

/* protobuf-c's fields are not const, but packing only reads them. */
static char *text(const char *borrowed)
{
    return (char *)(uintptr_t)borrowed;
}

static ProtobufCBinaryData binary(const void *data, size_t size)
{
    return (ProtobufCBinaryData){.len = size, .data = (uint8_t *)(uintptr_t)data};
}

static ProtobufCBinaryData id_of(const struct account_id *account)
{
    return binary(account->bytes, sizeof account->bytes);
}

static ProtobufCBinaryData hash_of(const struct digest *digest)
{
    return binary(digest->bytes, sizeof digest->bytes);
}

static char *amount_text(struct arena *arena, struct amount amount)
{
    char digits[AMOUNT_TEXT_SIZE];
    char *copy = arena_strdup(arena, amount_format(amount, digits));
    return copy != NULL ? copy : text("");
}

/* ---- accounts ---- */

static const void *next_account(const struct ledger *ledger, const void *previous)
{
    const struct ledger_account *account = ledger_next_account(ledger, previous);
    while (account != NULL && !account->has_key) {
        account = ledger_next_account(ledger, account); /* escrows and treasuries are not people */
    }
    return account;
}

static const char *account_text(const void *record, uint32_t part)
{
    const struct ledger_account *account = record;
    return part == 0 ? account->name : NULL;
}

static ProtobufCMessage *make_account(const struct ledger *ledger, const void *record,
                                      struct arena *arena)
{
    const struct ledger_account *account = record;
    Openledger__V1__AccountRecord *message = arena_alloc(arena, sizeof *message);
    Openledger__V1__Role *roles = arena_alloc_array(arena, LEDGER_ROLE_END, sizeof *roles);
    if (message == NULL || roles == NULL) {
        return NULL;
    }
    openledger__v1__account_record__init(message);
    message->account = id_of(&account->id);
    message->name = text(account->name);
    message->index = account->first_index;
    message->roles = roles;
    for (uint32_t role = LEDGER_ROLE_VALIDATOR; role < LEDGER_ROLE_END; role++) {
        if (ledger_is_bonded(ledger, &account->id, (enum ledger_role)role)) {
            roles[message->n_roles++] = (Openledger__V1__Role)role;
        }
    }
    return &message->base;
}

/* ---- datanets ---- */

static const void *next_datanet(const struct ledger *ledger, const void *previous)
{
    return ledger_next_datanet(ledger, previous);
}

static const char *datanet_text(const void *record, uint32_t part)
{
    const struct ledger_datanet *datanet = record;
    const char *parts[] = {datanet->name, datanet->title, datanet->description, datanet->licence};
    return part < sizeof parts / sizeof parts[0] ? parts[part] : NULL;
}

static Openledger__V1__VersionRecord *
make_version(const struct ledger *ledger, const struct ledger_version *version, struct arena *arena)
{
    Openledger__V1__VersionRecord *message = arena_alloc(arena, sizeof *message);
    struct ledger_version_contributor *contributors =
        arena_alloc_array(arena, version->contributor_count + 1, sizeof *contributors);
    Openledger__V1__VersionContributor *items =
        arena_alloc_array(arena, version->contributor_count + 1, sizeof *items);
    Openledger__V1__VersionContributor **pointers =
        arena_alloc_array(arena, version->contributor_count + 1, sizeof *pointers);
    if (message == NULL || contributors == NULL || items == NULL || pointers == NULL) {
        return NULL;
    }
    openledger__v1__version_record__init(message);
    message->version = version->version;
    message->root = hash_of(&version->root);
    message->row_count = version->row_count;
    message->manifest = hash_of(&version->manifest);
    message->index = version->index;
    size_t count = ledger_version_contributors(ledger, version->datanet, version->version,
                                               contributors, version->contributor_count);
    CHECK(count == version->contributor_count);
    for (size_t i = 0; i < count; i++) {
        openledger__v1__version_contributor__init(&items[i]);
        items[i].account = id_of(&contributors[i].account);
        items[i].row_count = contributors[i].row_count;
        pointers[i] = &items[i];
    }
    message->contributors = pointers;
    message->n_contributors = count;
    return message;
}

static ProtobufCMessage *make_datanet(const struct ledger *ledger, const void *record,
                                      struct arena *arena)
{
    const struct ledger_datanet *datanet = record;
    Openledger__V1__DatanetRecord *message = arena_alloc(arena, sizeof *message);
    ProtobufCBinaryData *validators =
        arena_alloc_array(arena, LEDGER_VALIDATORS_MAX, sizeof *validators);
    Openledger__V1__VersionRecord **versions =
        arena_alloc_array(arena, datanet->versions + 1, sizeof *versions);
    if (message == NULL || validators == NULL || versions == NULL) {
        return NULL;
    }
    openledger__v1__datanet_record__init(message);
    message->name = text(datanet->name);
    message->title = text(datanet->title);
    message->description = text(datanet->description);
    message->licence = text(datanet->licence);
    message->permission = (Openledger__V1__Permission)datanet->permission;
    message->owner = id_of(&datanet->owner);
    message->treasury = id_of(&datanet->treasury);
    message->contributions = datanet->contributions;
    message->index = datanet->index;
    message->validators = validators;
    message->n_validators = datanet->validator_count;
    for (uint32_t i = 0; i < datanet->validator_count; i++) {
        validators[i] = id_of(&datanet->validators[i]);
    }
    message->versions = versions;
    for (uint32_t i = 1; i <= datanet->versions; i++) {
        const struct ledger_version *version = ledger_version(ledger, datanet->name, i);
        CHECK(version != NULL);
        versions[i - 1] = make_version(ledger, version, arena);
        if (versions[i - 1] == NULL) {
            return NULL;
        }
        message->n_versions = i;
    }
    return &message->base;
}

/* ---- models ---- */

static const void *next_model(const struct ledger *ledger, const void *previous)
{
    return ledger_next_model(ledger, previous);
}

static const char *model_text(const void *record, uint32_t part)
{
    const struct ledger_model *model = record;
    const char *parts[] = {model->name, model->licence};
    return part < sizeof parts / sizeof parts[0] ? parts[part] : NULL;
}

static ProtobufCMessage *make_model(const struct ledger *ledger, const void *record,
                                    struct arena *arena)
{
    (void)ledger;
    const struct ledger_model *model = record;
    Openledger__V1__ModelRecord *message = arena_alloc(arena, sizeof *message);
    if (message == NULL) {
        return NULL;
    }
    openledger__v1__model_record__init(message);
    message->name = text(model->name);
    message->content = hash_of(&model->content);
    message->profile = hash_of(&model->profile);
    message->licence = text(model->licence);
    message->developer = id_of(&model->developer);
    message->index = model->index;
    return &message->base;
}

/* ---- adapters ---- */

static const void *next_adapter(const struct ledger *ledger, const void *previous)
{
    return ledger_next_adapter(ledger, previous);
}

static const char *adapter_text(const void *record, uint32_t part)
{
    const struct ledger_adapter *adapter = record;
    const char *parts[] = {adapter->name, adapter->datanet, adapter->model};
    return part < sizeof parts / sizeof parts[0] ? parts[part] : NULL;
}

static Openledger__V1__TrainSettings *make_settings(const struct ledger_train_settings *settings,
                                                    struct arena *arena)
{
    Openledger__V1__TrainSettings *message = arena_alloc(arena, sizeof *message);
    if (message == NULL) {
        return NULL;
    }
    openledger__v1__train_settings__init(message);
    message->rank = settings->rank;
    message->alpha = settings->alpha;
    message->steps = settings->steps;
    message->batch_rows = settings->batch_rows;
    message->learning_rate_ppm = settings->learning_rate_ppm;
    message->warmup_steps = settings->warmup_steps;
    message->context = settings->context;
    message->seed = settings->seed;
    message->digest_every = settings->digest_every;
    message->weight_decay_ppm = settings->weight_decay_ppm;
    return message;
}

/* The lineage: adapter <- job <- trainer, dataset version, base model. All are on the ledger, or
 * the adapter would not be. */
static ProtobufCMessage *make_adapter(const struct ledger *ledger, const void *record,
                                      struct arena *arena)
{
    const struct ledger_adapter *adapter = record;
    const struct ledger_job *job = ledger_job(ledger, &adapter->job);
    const struct ledger_model *model = ledger_model(ledger, adapter->model);
    const struct ledger_version *version =
        ledger_version(ledger, adapter->datanet, adapter->version);
    CHECK(job != NULL);
    CHECK(model != NULL);
    CHECK(version != NULL);
    Openledger__V1__AdapterRecord *message = arena_alloc(arena, sizeof *message);
    if (message == NULL) {
        return NULL;
    }
    openledger__v1__adapter_record__init(message);
    message->name = text(adapter->name);
    message->content = hash_of(&adapter->content);
    message->developer = id_of(&adapter->developer);
    message->model = text(adapter->model);
    message->model_content = hash_of(&model->content);
    message->datanet = text(adapter->datanet);
    message->version = adapter->version;
    message->dataset_root = hash_of(&version->root);
    message->job = hash_of(&adapter->job);
    message->trainer = id_of(&job->trainer);
    message->settings = make_settings(&job->settings, arena);
    message->transcript_root = hash_of(&job->transcript_root);
    message->transcript = hash_of(&job->transcript);
    message->price_prompt = amount_text(arena, adapter->price_prompt);
    message->price_completion = amount_text(arena, adapter->price_completion);
    if (adapter->has_index) {
        message->attribution_index = hash_of(&adapter->attribution_index);
    }
    message->index = adapter->index;
    message->price_from_ms = adapter->price_from_ms;
    message->revoked_ms = adapter->revoked_ms;
    return message->settings == NULL ? NULL : &message->base;
}

static const struct {
    walk *next;
    text_of *part;
    make *make;
    const char *what;
} KINDS[] = {
    [REGISTRY_ACCOUNTS] = {next_account, account_text, make_account, "account"},
    [REGISTRY_DATANETS] = {next_datanet, datanet_text, make_datanet, "datanet"},
    [REGISTRY_MODELS] = {next_model, model_text, make_model, "model"},
    [REGISTRY_ADAPTERS] = {next_adapter, adapter_text, make_adapter, "adapter"},
};

/* ---- searching and paging ---- */

struct query {
    char words[REGISTRY_QUERY_MAX + 1]; /* folded, each word NUL-terminated */
    const char *word[REGISTRY_WORDS_MAX];
    uint32_t count;
};

static enum err query_parse(const char *request, struct query *query, struct note *note)
{
    size_t size = strlen(request);
    if (size > REGISTRY_QUERY_MAX) {
        return note_set(note, ERR_LIMIT, "the query has %zu bytes, the limit is %d", size,
                        REGISTRY_QUERY_MAX);
    }
    *query = (struct query){.count = 0};
    for (size_t i = 0; i < size; i++) {
        bool blank = isspace((unsigned char)request[i]) != 0;
        query->words[i] = blank ? '\0' : (char)tolower((unsigned char)request[i]);
        if (!blank && (i == 0 || query->words[i - 1] == '\0')) {
            if (query->count == REGISTRY_WORDS_MAX) {
                return note_set(note, ERR_LIMIT, "the query has more than %d words",
                                REGISTRY_WORDS_MAX);
            }
            query->word[query->count++] = &query->words[i];
        }
    }
    return ERR_OK;
}

static bool matches(const struct query *query, text_of *part, const void *record)
{
    for (uint32_t w = 0; w < query->count; w++) {
        bool found = false;
        const char *field;
        for (uint32_t i = 0; !found && (field = part(record, i)) != NULL; i++) {
            found = strcasestr(field, query->word[w]) != NULL;
        }
        if (!found) {
            return false;
        }
    }
    return true;
}

/* A page token is how many records of the walk were passed already: the log only grows. */
static enum err token_parse(const char *token, uint64_t *out_skip, struct note *note)
{
    uint64_t skip = 0;
    size_t size = strlen(token);
    bool valid = size <= 18;
    for (size_t i = 0; i < size && valid; i++) {
        valid = isdigit((unsigned char)token[i]) != 0;
        skip = skip * 10 + (uint64_t)(token[i] - '0');
    }
    if (!valid) {
        return note_set(note, ERR_INVALID, "page token '%.32s' is not one of ours", token);
    }
    *out_skip = skip;
    return ERR_OK;
}

enum err registry_list(const struct ledger *ledger, enum registry_kind kind,
                       const Openledger__V1__ListRequest *request, struct arena *arena,
                       struct registry_page *out_page, struct note *note)
{
    struct query query;
    uint64_t skip = 0;
    enum err err = query_parse(request->query, &query, note);
    err = err != ERR_OK ? err : token_parse(request->page_token, &skip, note);
    if (err != ERR_OK) {
        return err;
    }
    uint32_t size = request->page_size == 0 ? REGISTRY_PAGE_DEFAULT : request->page_size;
    if (size > REGISTRY_PAGE_MAX) {
        return note_set(note, ERR_LIMIT, "page size %u is above the limit of %d", size,
                        REGISTRY_PAGE_MAX);
    }
    struct registry_page page = {.next_page_token = text("")};
    page.items = arena_alloc_array(arena, size, sizeof(ProtobufCMessage *));
    if (page.items == NULL) {
        return note_set(note, ERR_LIMIT, "the page does not fit into memory");
    }
    uint64_t passed = 0;
    for (const void *record = KINDS[kind].next(ledger, NULL); record != NULL;
         record = KINDS[kind].next(ledger, record), passed++) {
        if (passed < skip || !matches(&query, KINDS[kind].part, record)) {
            continue;
        }
        if (page.count == size) {
            page.next_page_token = arena_printf(arena, "%llu", (unsigned long long)passed);
            break;
        }
        page.items[page.count] = KINDS[kind].make(ledger, record, arena);
        if (page.items[page.count] == NULL) {
            return note_set(note, ERR_LIMIT, "the page does not fit into memory: ask for fewer");
        }
        page.count++;
    }
    *out_page = page;
    return ERR_OK;
}

enum err registry_get(const struct ledger *ledger, enum registry_kind kind, const char *name,
                      struct arena *arena, ProtobufCMessage **out_message, struct note *note)
{
    CHECK(kind == REGISTRY_DATANETS || kind == REGISTRY_ADAPTERS);
    const void *record = kind == REGISTRY_DATANETS ? (const void *)ledger_datanet(ledger, name)
                                                   : (const void *)ledger_adapter(ledger, name);
    if (record == NULL) {
        return note_set(note, ERR_NOT_FOUND, "no %s '%.64s'", KINDS[kind].what, name);
    }
    ProtobufCMessage *message = KINDS[kind].make(ledger, record, arena);
    if (message == NULL) {
        return note_set(note, ERR_LIMIT, "%s '%.64s' does not fit into memory", KINDS[kind].what,
                        name);
    }
    *out_message = message;
    return ERR_OK;
}
