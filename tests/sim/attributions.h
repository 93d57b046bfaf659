/* attributions.h - attribution's part of a history: when which shares of charged receipts are published. */
#pragma once

#include "shared/ledger/ledger.h"

/* A gateway's batch was charged for good, by this task. */
void attributions_charged(const struct ledger_effects *effects, size_t task);
