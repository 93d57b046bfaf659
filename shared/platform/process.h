/* process.h - children: start with a log file, wait, signal; and short commands.
 *
 * argv lists end with NULL; argv[0] is looked up in PATH when it has no '/'. No shell is involved.
 * A child dies with its parent where asked, so a killed `openledger up` leaves nothing behind. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/err.h"
#include "shared/base/note.h"

struct process_options {
    const char *const *argv;
    const char *const *env; /* "NAME=value" additions to our own environment, NULL-ended; or NULL */
    const char *folder;     /* working folder; NULL: ours */
    const char *log_path;   /* standard output and error are appended here; NULL: inherited */
    bool die_with_parent;   /* SIGKILL when the thread that started it ends (start from main) */
    bool own_group;         /* a process group of its own: Ctrl-C in the terminal spares it */
};

struct process;

/* ERR_NOT_FOUND: no such program. The child has standard input from /dev/null. */
MUST_USE enum err process_start(const struct process_options *options, struct process **out_process,
                                struct note *note);

/* Waits up to timeout_ms (0: asks only). ERR_TIMEOUT: still running. *out_exit: its exit code, or
 * 128 + signal. May be asked again. */
MUST_USE enum err process_wait(struct process *process, uint64_t timeout_ms, int *out_exit);
bool process_running(struct process *process);
int process_pid(const struct process *process);

/* Sends a signal; nothing happens when it has ended (its pid is never reused while we hold it). */
void process_signal(struct process *process, int signal_number);

/* SIGTERM, then SIGKILL after grace_ms; waits for the end. */
void process_stop(struct process *process, uint64_t grace_ms);

/* Frees. A child still running is killed first. NULL is fine. */
void process_destroy(struct process *process);

/* Runs argv to its end and appends its standard output to out (its ceiling counts; standard error
 * is inherited). ERR_TIMEOUT: killed after timeout_ms. */
MUST_USE enum err process_output(const char *const *argv, uint64_t timeout_ms, struct buf *out,
                                 int *out_exit, struct note *note);

/* A TCP port on 127.0.0.1 that was free a moment ago: at random, from 10000 to 15999. That is below the
 * ports that Linux and the BSDs give to outgoing connections, one of which could otherwise take the
 * port, and keep it, before the program it is meant for listens. */
MUST_USE enum err process_free_port(uint16_t *out_port, struct note *note);

/* Can 127.0.0.1:port be connected to right now? For readiness waits. */
bool process_port_open(uint16_t port);
