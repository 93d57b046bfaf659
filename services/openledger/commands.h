/* commands.h - the commands of the command line: one function each, in a file of its own.
 *
 * argv[0] is the command's name; the result is the exit code: 0 done, 1 failed, 2 wrong usage. */
#pragma once

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

int cmd_corpus(int argc, char **argv);
int cmd_pretrain(int argc, char **argv);
int cmd_tokenizer(int argc, char **argv);
