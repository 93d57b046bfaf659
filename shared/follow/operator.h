/* operator.h - a service's own account on the ledger: its key, its name, its bond.
 *
 * A trainer or an attribution service acts under an account of its own that must be bonded in its
 * role. The key lives in the service's data folder (or where key-file says); the account is opened
 * and bonded as soon as the ledger is there and the account holds enough OPEN: whoever runs the
 * service sends it some. Worker thread only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/account_id.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/crypto/keys.h"
#include "shared/follow/follow.h"
#include "shared/ledger/ledger.h"

#define OPERATOR_RETRY_MS 1000  /* between attempts to open or bond */
#define OPERATOR_SUBMIT_MS 5000 /* the worker is held up at most so long by an attempt */

struct operator_account {
    struct key_pair *keys; /* owned */
    struct account_id id;
    enum ledger_role role;
    const char *name;     /* static */
    uint64_t retry_at_ms; /* monotonic */
    struct note why;      /* why it is not ready yet; "" when it is */
};

/* Loads the key or makes one: key_file, or folder/key.json when that is "". */
MUST_USE enum err operator_open(struct operator_account *account, const char *folder,
                                const char *key_file, enum ledger_role role, const char *name,
                                struct note *note);
void operator_close(struct operator_account *account); /* a zeroed one is fine */

/* Opens and bonds the account when that is still to be done; call it after follow_pump. Returns true
 * once the ledger has both. */
bool operator_ready(struct operator_account *account, struct follow *follow, uint64_t now_ms);
