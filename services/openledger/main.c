/* main.c - the openledger command line: finds the command and runs it. */
#include <stdio.h>
#include <string.h>

#include "services/openledger/commands.h"

static const struct {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
} COMMANDS[] = {
    {"corpus", "cut installed public texts into training rows", cmd_corpus},
    {"pretrain", "train a base model from text", cmd_pretrain},
    {"tokenizer", "learn a vocabulary, encode, decode", cmd_tokenizer},
};

static void show_help(void)
{
    (void)printf("usage: openledger COMMAND [options]\n\n");
    for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++) {
        (void)printf("  %-12s %s\n", COMMANDS[i].name, COMMANDS[i].summary);
    }
    (void)printf("\nopenledger COMMAND --help says more.\n");
}

int main(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        show_help();
        return argc < 2 ? 2 : 0;
    }
    for (size_t i = 0; i < sizeof COMMANDS / sizeof *COMMANDS; i++) {
        if (strcmp(argv[1], COMMANDS[i].name) == 0) {
            return COMMANDS[i].run(argc - 1, argv + 1);
        }
    }
    (void)fprintf(stderr, "openledger: unknown command \"%s\", see openledger --help\n", argv[1]);
    return 2;
}
