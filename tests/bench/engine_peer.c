/* engine_peer.c - peers of bench_engine, each in a process of its own. See engine_bench.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/base/check.h"
#include "tests/bench/engine_bench.h"

#define LINE_SIZE 256

struct bench_peer {
    const char *name;
    pid_t child;
    FILE *questions, *answers;
    char kernel[BENCH_WORD_SIZE];
    bool failed;
};

static void settings(uint32_t threads)
{
    char number[16];
    (void)snprintf(number, sizeof number, "%u", threads);
    (void)setenv("OPENBLAS_NUM_THREADS", number, 1);
    (void)setenv("OMP_NUM_THREADS", number, 1);
    /* Whoever set these did not ask for the fastest kernel. */
    (void)unsetenv("OPENBLAS_CORETYPE");
    (void)unsetenv("OPENBLAS_L2_SIZE");
    /* What PyTorch is fastest with: its threads else spin against OpenBLAS's for two cores. */
    (void)setenv("OMP_WAIT_POLICY", "passive", 1);
    (void)setenv("ATEN_CPU_CAPABILITY", "avx512", 1);
}

struct bench_peer *bench_peer_start(char *const argv[], uint32_t threads)
{
    int to[2];
    int from[2];
    posix_spawn_file_actions_t actions;
    struct bench_peer *peer = calloc(1, sizeof *peer);
    CHECK(peer != NULL);
    CHECK(pipe2(to, O_CLOEXEC) == 0 && pipe2(from, O_CLOEXEC) == 0);
    (void)signal(SIGPIPE, SIG_IGN); /* a peer that died answers nothing: that is enough */
    settings(threads);
    peer->name = argv[1];
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, to[0], STDIN_FILENO);
    (void)posix_spawn_file_actions_adddup2(&actions, from[1], STDOUT_FILENO);
    peer->failed = posix_spawnp(&peer->child, argv[0], &actions, NULL, argv, environ) != 0;
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(to[0]);
    (void)close(from[1]);
    peer->questions = fdopen(to[1], "w");
    peer->answers = fdopen(from[0], "r");
    CHECK(peer->questions != NULL && peer->answers != NULL);
    return peer;
}

/* The next line; splits it at its space. False: there is none, or the peer says that it cannot. */
static bool line_next(struct bench_peer *peer, char line[LINE_SIZE], char **out_value)
{
    if (fgets(line, LINE_SIZE, peer->answers) == NULL) {
        return false;
    }
    line[strcspn(line, "\n")] = '\0';
    char *space = strchr(line, ' ');
    if (space != NULL) {
        *space = '\0';
    }
    *out_value = space == NULL ? line + strlen(line) : space + 1;
    if (strcmp(line, "void") == 0) {
        (void)fprintf(stderr, "  %s: %s\n", peer->name, *out_value);
        peer->failed = true;
        return false;
    }
    if (strcmp(line, "kernel") == 0) {
        (void)snprintf(peer->kernel, sizeof peer->kernel, "%s", *out_value);
    }
    return true;
}

double bench_peer_rate(void *argument)
{
    const struct bench_question *question = argument;
    struct bench_peer *peer = question->peer;
    char line[LINE_SIZE];
    char *value = NULL;
    if (peer->failed || fprintf(peer->questions, "%s\n", question->name) < 0 ||
        fflush(peer->questions) != 0) {
        peer->failed = true;
        return 0.0;
    }
    while (line_next(peer, line, &value)) {
        if (strcmp(line, question->name) == 0) {
            return strtod(value, NULL);
        }
    }
    peer->failed = true;
    return 0.0;
}

const char *bench_peer_kernel(const struct bench_peer *peer)
{
    return peer->kernel;
}

bool bench_peer_stop(struct bench_peer *peer)
{
    int status = -1;
    (void)fclose(peer->questions);
    (void)fclose(peer->answers);
    while (peer->child > 0 && waitpid(peer->child, &status, 0) < 0 && errno == EINTR) {
    }
    const bool ok = !peer->failed;
    if (!ok) {
        (void)fprintf(stderr, "  %s could not run: make bench-deps installs the peers\n",
                      peer->name);
    }
    free(peer);
    return ok;
}

bool bench_peer_numbers(char *const argv[], struct bench_number *numbers, uint32_t count)
{
    struct bench_peer *peer = bench_peer_start(argv, 1);
    char line[LINE_SIZE];
    char *value = NULL;
    while (!peer->failed && line_next(peer, line, &value)) {
        for (uint32_t i = 0; i < count; i++) {
            if (strcmp(numbers[i].name, line) == 0) {
                numbers[i].value = strtod(value, NULL);
                numbers[i].found = true;
            }
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        peer->failed = peer->failed || !numbers[i].found;
    }
    return bench_peer_stop(peer);
}
