/* threads HOLE LIVE REFUSING: 64 threads connect to these ports of loopback for 3 s, on descriptors whose numbers all of
 * them use in turn. */
#include "probe.h"
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>

enum { HOLE, LIVE, REFUSED, NONBLOCKING, KINDS };
static const int expected[KINDS] = {ETIMEDOUT, 0, ECONNREFUSED, EINPROGRESS};
static const char *kinds[KINDS] = {"hole", "live", "refused", "nonblocking"};
static char **ports;
static long until;
static atomic_long count_of[KINDS], wrong_errno, wrong_flags, wrong_timeout, wrong_ready, longest;

static int connect_to(int fd, const char *port) {
    socklen_t len;
    union address a = address("127.0.0.1", port, &len);
    return connect(fd, &a.any, len) ? errno : 0;
}

/* After a connect that does not block, to a live port: the connection has the program's own user timeout. */
static void finish(int fd) {
    struct pollfd p = {fd, POLLOUT, 0};
    int error = 0;
    socklen_t len = sizeof error;
    wrong_ready += poll(&p, 1, 5000) != 1 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) || error;
    if (kernel_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) != 0) {
        usleep(100000); /* another thread's wait may just be about to put it back */
        wrong_timeout += kernel_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) != 0;
    }
}

static void *range(void *number) {
    for (long i = (long)number; milliseconds() < until; i++) {
        int kind = i % KINDS, nonblocking = kind == NONBLOCKING;
        int fd = socket(AF_INET, SOCK_STREAM | (nonblocking ? SOCK_NONBLOCK : 0), 0);
        int before = fcntl(fd, F_GETFL);
        long start = milliseconds();
        int error = connect_to(fd, ports[nonblocking ? LIVE : kind]);
        long took = milliseconds() - start, most = longest;
        while (took > most && !atomic_compare_exchange_weak(&longest, &most, took)) {
        }
        count_of[kind]++;
        wrong_errno += error != expected[kind] && !(nonblocking && error == 0);
        wrong_flags += fcntl(fd, F_GETFL) != before;
        if (nonblocking)
            finish(fd);
        if (close(fd))
            wrong_errno++;
    }
    return NULL;
}

static int descriptors(void) {
    int n = 0;
    DIR *all = opendir("/proc/self/fd");
    while (readdir(all))
        n++;
    closedir(all);
    return n;
}

int main(int count, char **args) {
    (void)count;
    ports = args + 1;
    pthread_t threads[64];
    int before = descriptors();
    until = milliseconds() + 3000;
    for (long i = 0; i < 64; i++)
        pthread_create(&threads[i], NULL, range, (void *)i);
    for (int i = 0; i < 64; i++)
        pthread_join(threads[i], NULL);
    for (int kind = 0; kind < KINDS; kind++)
        say(kinds[kind], count_of[kind]);
    say("wrong_errno", wrong_errno);
    say("wrong_flags", wrong_flags);
    say("wrong_ready", wrong_ready);
    say("wrong_timeout", wrong_timeout);
    say("leaked", descriptors() - before);
    say("longest", longest);
    return 0;
}
