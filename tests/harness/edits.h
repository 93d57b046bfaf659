/* edits.h - true bytes with a fuzzer's edits in them: it begins where a parser is already deep inside, and no
 * files of seeds are needed. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/bytes.h"

/* script: edits one behind the other, each a place (u16, little-endian, modulo the size), how many bytes go from
 * there (u8), how many come instead (u8), and these. An empty script leaves target as it is; what a script's end
 * cuts off counts as not there. */
void edits_make(struct bytes script, struct buf *target);
