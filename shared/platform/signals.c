/* signals.c - see signals.h. */
#include "shared/platform/signals.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "shared/base/check.h"
#include "shared/platform/clock.h"

static atomic_bool stop_requested;
static int wake_fd = -1;

/* Only calls that a signal handler may make. */
static void on_stop(int signal_number)
{
    (void)signal_number;
    int saved_errno = errno;
    signals_request_stop();
    errno = saved_errno;
}

void signals_init(void)
{
    CHECK(wake_fd == -1);
    wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(wake_fd >= 0);
    struct sigaction stop = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    CHECK(sigaction(SIGTERM, &stop, NULL) == 0);
    CHECK(sigaction(SIGINT, &stop, NULL) == 0);
    CHECK(sigaction(SIGPIPE, &ignore, NULL) == 0);
}

bool signals_stop_requested(void)
{
    return atomic_load(&stop_requested);
}

void signals_request_stop(void)
{
    atomic_store(&stop_requested, true);
    uint64_t one = 1;
    ssize_t written = write(wake_fd, &one, sizeof one);
    (void)written; /* the counter never fills up */
}

int signals_fd(void)
{
    CHECK(wake_fd >= 0);
    return wake_fd;
}

bool signals_wait(uint64_t timeout_ms)
{
    uint64_t end_ms = clock_mono_ms() + timeout_ms;
    while (!signals_stop_requested()) {
        uint64_t now_ms = clock_mono_ms();
        if (now_ms >= end_ms) {
            return false;
        }
        uint64_t left_ms = end_ms - now_ms < 60000 ? end_ms - now_ms : 60000;
        struct pollfd poll_fd = {.fd = signals_fd(), .events = POLLIN};
        (void)poll(&poll_fd, 1, (int)left_ms);
    }
    return true;
}
