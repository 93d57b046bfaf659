/* process.c - see process.h. posix_spawn cannot set the parent-death signal, so fork and exec;
 * between them the child makes only async-signal-safe calls, on memory prepared before. */
#include "shared/platform/process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shared/base/check.h"
#include "shared/platform/clock.h"
#include "shared/platform/file.h"
#include "shared/platform/random.h"

struct process {
    pid_t pid;
    int pid_fd; /* readable once the child has ended */
    bool ended;
    int exit_code;
};

/* What the child tells the parent through a pipe when it could not become the program. */
struct child_failure {
    int step;
    int cause;
};
static const char *const CHILD_STEP[] = {"set up", "enter the folder of", "open the log of",
                                         "start"};

static size_t list_count(const char *const *list)
{
    size_t count = 0;
    while (list != NULL && list[count] != NULL) {
        count++;
    }
    return count;
}

/* Our environment with additions replacing same names. The strings are borrowed. */
static char **environment_create(const char *const *additions)
{
    static const char *const NONE[] = {NULL};
    additions = additions != NULL ? additions : NONE;
    char **out =
        calloc(list_count((const char *const *)environ) + list_count(additions) + 1, sizeof *out);
    if (out == NULL) {
        return NULL;
    }
    size_t count = 0;
    for (char **own = environ; own != NULL && *own != NULL; own++) {
        bool replaced = false;
        for (const char *const *added = additions; *added != NULL; added++) {
            replaced = replaced || strncmp(*own, *added, strcspn(*added, "=") + 1) == 0;
        }
        if (!replaced) {
            out[count++] = *own;
        }
    }
    for (const char *const *added = additions; *added != NULL; added++) {
        out[count++] = (char *)(uintptr_t)*added;
    }
    return out;
}

/* In the child: never returns. out_fd: its standard output (-1: per options). */
static _Noreturn void child(const struct process_options *options, char **environment, pid_t parent,
                            int out_fd, int report_fd)
{
    struct child_failure failure = {0};
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL); /* NOLINT(concurrency-mt-unsafe): after fork */
    (void)signal(SIGPIPE, SIG_DFL);
    int null_fd = open("/dev/null", O_RDONLY);
    if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 ||
        (options->own_group && setpgid(0, 0) != 0) ||
        (options->die_with_parent &&
         (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent))) {
        goto failed;
    }
    failure.step = 1;
    if (options->folder != NULL && chdir(options->folder) != 0) {
        goto failed;
    }
    failure.step = 2;
    if (options->log_path != NULL) {
        int log_fd = open(options->log_path, O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (log_fd < 0 || dup2(log_fd, STDOUT_FILENO) < 0 || dup2(log_fd, STDERR_FILENO) < 0) {
            goto failed;
        }
        (void)close(log_fd);
    }
    if (out_fd >= 0 && dup2(out_fd, STDOUT_FILENO) < 0) {
        goto failed;
    }
    failure.step = 3;
    (void)close(null_fd);
    (void)execvpe(options->argv[0], (char *const *)(uintptr_t)options->argv, environment);
failed:
    failure.cause = errno;
    ssize_t written = write(report_fd, &failure, sizeof failure);
    (void)written;
    _exit(127);
}

static enum err start(const struct process_options *options, int out_fd,
                      struct process **out_process, struct note *note)
{
    CHECK(options->argv != NULL);
    CHECK(options->argv[0] != NULL);
    int report[2] = {-1, -1};
    struct process *process = calloc(1, sizeof *process);
    char **environment = environment_create(options->env);
    enum err err = ERR_NO_MEMORY;
    if (process == NULL || environment == NULL) {
        goto done;
    }
    if (pipe2(report, O_CLOEXEC) != 0) {
        err = note_set(note, err_from_errno(errno), "could not make a pipe: %s",
                       strerrordesc_np(errno));
        goto done;
    }
    pid_t parent = getpid();
    process->pid = fork();
    if (process->pid == 0) {
        child(options, environment, parent, out_fd, report[1]);
    }
    if (process->pid < 0) {
        err = note_set(note, ERR_LIMIT, "could not fork: %s", strerrordesc_np(errno));
        goto done;
    }
    (void)close(report[1]);
    report[1] = -1;
    struct child_failure failure;
    ssize_t got;
    do {
        got = read(report[0], &failure, sizeof failure); /* ends when exec closes the pipe */
    } while (got < 0 && errno == EINTR);
    if (got == (ssize_t)sizeof failure) {
        (void)waitpid(process->pid, NULL, 0);
        err = note_set(note, err_from_errno(failure.cause), "could not %s %s: %s",
                       CHILD_STEP[failure.step], options->argv[0], strerrordesc_np(failure.cause));
        goto done;
    }
    process->pid_fd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    if (process->pid_fd < 0) {
        err = note_set(note, err_from_errno(errno), "could not watch %s: %s", options->argv[0],
                       strerrordesc_np(errno));
        (void)kill(process->pid, SIGKILL);
        (void)waitpid(process->pid, NULL, 0);
        goto done;
    }
    *out_process = process;
    process = NULL;
    err = ERR_OK;
done:
    file_close(report[0]);
    file_close(report[1]);
    free(environment);
    free(process);
    return err;
}

enum err process_start(const struct process_options *options, struct process **out_process,
                       struct note *note)
{
    return start(options, -1, out_process, note);
}

enum err process_wait(struct process *process, uint64_t timeout_ms, int *out_exit)
{
    uint64_t end_ms = clock_mono_ms() + timeout_ms;
    while (!process->ended) {
        uint64_t now_ms = clock_mono_ms();
        uint64_t left_ms = now_ms < end_ms ? end_ms - now_ms : 0;
        struct pollfd ended = {.fd = process->pid_fd, .events = POLLIN};
        int ready = poll(&ended, 1, (int)(left_ms < 60000 ? left_ms : 60000));
        if (ready > 0) {
            int status = 0;
            pid_t pid = waitpid(process->pid, &status, 0);
            CHECK(pid == process->pid);
            process->ended = true;
            process->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        } else if (left_ms == 0) {
            return ERR_TIMEOUT;
        }
    }
    *out_exit = process->exit_code;
    return ERR_OK;
}

bool process_running(struct process *process)
{
    int exit_code;
    return process_wait(process, 0, &exit_code) == ERR_TIMEOUT;
}

int process_pid(const struct process *process)
{
    return process->pid;
}

void process_signal(struct process *process, int signal_number)
{
    if (!process->ended) { /* not waited for yet: the pid is still its own */
        (void)kill(process->pid, signal_number);
    }
}

void process_stop(struct process *process, uint64_t grace_ms)
{
    int exit_code;
    process_signal(process, SIGTERM);
    if (process_wait(process, grace_ms, &exit_code) == ERR_TIMEOUT) {
        process_signal(process, SIGKILL);
        enum err err = process_wait(process, UINT32_MAX, &exit_code);
        CHECK(err == ERR_OK);
    }
}

void process_destroy(struct process *process)
{
    if (process != NULL) {
        if (process_running(process)) {
            process_stop(process, 0);
        }
        file_close(process->pid_fd);
        free(process);
    }
}

/* Reads fd to its end into out. */
static enum err drain(int fd, uint64_t end_ms, struct buf *out, struct note *note)
{
    enum { STEP = 4096 };
    for (;;) {
        uint64_t now_ms = clock_mono_ms();
        struct pollfd readable = {.fd = fd, .events = POLLIN};
        uint64_t left_ms = now_ms < end_ms ? end_ms - now_ms : 0;
        int ready = poll(&readable, 1, (int)(left_ms < 60000 ? left_ms : 60000));
        if (ready <= 0) {
            if (left_ms == 0) {
                return note_set(note, ERR_TIMEOUT, "no end of output in time");
            }
            continue;
        }
        uint8_t part[STEP];
        ssize_t got = read(fd, part, sizeof part);
        if (got == 0) {
            return ERR_OK;
        }
        if (got < 0 && errno != EINTR) {
            return note_set(note, ERR_IO, "could not read output: %s", strerrordesc_np(errno));
        }
        if (got > 0 && buf_append(out, part, (size_t)got) != ERR_OK) {
            return note_set(note, buf_err(out), "output is larger than %zu bytes", out->limit);
        }
    }
}

enum err process_output(const char *const *argv, uint64_t timeout_ms, struct buf *out,
                        int *out_exit, struct note *note)
{
    uint64_t end_ms = clock_mono_ms() + timeout_ms;
    int pipe_fd[2];
    if (pipe2(pipe_fd, O_CLOEXEC) != 0) {
        return note_set(note, err_from_errno(errno), "could not make a pipe: %s",
                        strerrordesc_np(errno));
    }
    struct process_options options = {.argv = argv};
    struct process *process = NULL;
    enum err err = start(&options, pipe_fd[1], &process, note);
    file_close(pipe_fd[1]);
    err = err == ERR_OK ? drain(pipe_fd[0], end_ms, out, note) : err;
    file_close(pipe_fd[0]);
    if (err == ERR_OK) {
        uint64_t now_ms = clock_mono_ms();
        err = process_wait(process, now_ms < end_ms ? end_ms - now_ms : 0, out_exit);
    }
    process_destroy(process);
    return err == ERR_OK ? err : note_wrap(note, err, "%s", argv[0]);
}

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

enum err process_free_port(uint16_t *out_port, struct note *note)
{
    enum { FIRST = 10000, COUNT = 6000, TRIES = 64 };
    int saved = EADDRINUSE;
    for (int i = 0; i < TRIES; i++) {
        uint16_t port = 0;
        random_bytes(&port, sizeof port);
        port = (uint16_t)(FIRST + port % COUNT);
        struct sockaddr_in address = loopback(port);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool free = fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof address) == 0;
        saved = errno;
        file_close(fd);
        if (free) {
            *out_port = port;
            return ERR_OK;
        }
    }
    return note_set(note, err_from_errno(saved), "no free port from %d to %d: %s", FIRST,
                    FIRST + COUNT - 1, strerrordesc_np(saved));
}

bool process_port_open(uint16_t port)
{
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool open = fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0;
    file_close(fd);
    return open;
}
