/* commands.h - the commands of the command line: one function each, in a file of its own.
 *
 * argv[0] is the command's name; the result is the exit code: 0 done, 1 failed, 2 wrong usage. */
#pragma once

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

int cmd_account(int argc, char **argv);
int cmd_adapter(int argc, char **argv);
int cmd_attribution(int argc, char **argv);
int cmd_balance(int argc, char **argv);
int cmd_block(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_claims(int argc, char **argv);
int cmd_corpus(int argc, char **argv);
int cmd_datanet(int argc, char **argv);
int cmd_demo(int argc, char **argv);
int cmd_down(int argc, char **argv);
int cmd_governance(int argc, char **argv);
int cmd_grant(int argc, char **argv);
int cmd_hold(int argc, char **argv);
int cmd_keys(int argc, char **argv);
int cmd_linked(int argc, char **argv);
int cmd_model(int argc, char **argv);
int cmd_pretrain(int argc, char **argv);
int cmd_prove(int argc, char **argv);
int cmd_recovery(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_stake(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_tokenizer(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_transfer(int argc, char **argv);
int cmd_up(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_witness(int argc, char **argv);
