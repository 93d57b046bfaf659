/* registry.h - what there is on the ledger, for people: searchable records with their lineage.
 *
 * Why no database: everything the registry says is in the service's own copy of the ledger
 * (shared/follow); this file only selects, joins and pages it. A restart forgets nothing.
 *
 * Pure over its arguments. Messages are made in the caller's arena and borrow from the ledger: encode
 * them before the ledger moves on. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#include "openledger/v1/services.pb-c.h"
#include "shared/base/arena.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/ledger/ledger.h"

#define REGISTRY_PAGE_DEFAULT 100
#define REGISTRY_PAGE_MAX 1000
#define REGISTRY_QUERY_MAX 256 /* bytes */
#define REGISTRY_WORDS_MAX 16

enum registry_kind { REGISTRY_ACCOUNTS, REGISTRY_DATANETS, REGISTRY_MODELS, REGISTRY_ADAPTERS };

struct registry_page {
    ProtobufCMessage **items; /* of the kind's record type */
    size_t count;
    char *next_page_token; /* "" at the end */
};

/* Lists records in log order whose searchable text holds every word of the query (ASCII letters
 * folded). ERR_INVALID: page token not ours; ERR_LIMIT: query, page size or arena. */
MUST_USE enum err registry_list(const struct ledger *ledger, enum registry_kind kind,
                                const Openledger__V1__ListRequest *request, struct arena *arena,
                                struct registry_page *out_page, struct note *note);

/* One record by name, of REGISTRY_DATANETS or REGISTRY_ADAPTERS. ERR_NOT_FOUND. */
MUST_USE enum err registry_get(const struct ledger *ledger, enum registry_kind kind,
                               const char *name, struct arena *arena,
                               ProtobufCMessage **out_message, struct note *note);
