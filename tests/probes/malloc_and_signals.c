/* malloc_and_signals HANDLERS LIVE: so many handlers call into the library, while the program is inside malloc, with locks;
 * fewer, if that takes longer than 15 s. */
#include "probe.h"
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

static const char *live;
static volatile sig_atomic_t handled;
static volatile int wrong;

static int connected(int fd, const char *port) {
    socklen_t len;
    union address a = address("127.0.0.1", port, &len);
    return connect(fd, &a.any, len) ? errno : 0;
}

static void handler(int signal) {
    int error = errno, one = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0), other = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in any = {.sin_family = AF_INET};
    (void)signal;
    wrong += setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &one, sizeof one) != 0;
    wrong += connected(fd, handled % 2 ? live : "1") != (handled % 2 ? 0 : ECONNREFUSED);
    int answer = connected(other, live);
    wrong += answer != EINPROGRESS && answer != 0;
    struct pollfd p = {other, POLLOUT, 0};
    wrong += poll(&p, 1, 5000) != 1 || write(other, "x", 1) != 1 || close(other) != 0 || close(fd) != 0;
    fd = socket(AF_INET, SOCK_STREAM, 0);
    wrong += bind(fd, (struct sockaddr *)&any, sizeof any) != 0 || listen(fd, 1) != 0 || close(fd) != 0;
    handled++;
    errno = error;
}

/* A process with a second thread takes malloc's locks. */
static void *second(void *arg) {
    pause();
    return arg;
}

int main(int count, char **args) {
    (void)count;
    live = args[2];
    long wanted = atoi(args[1]), until = milliseconds() + 15000, rounds = 0;
    sigset_t all, mask;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &mask);
    pthread_create(&thread, NULL, second, NULL);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 2000}, {0, 2000}};
    setitimer(ITIMER_REAL, &often, NULL);
    void *blocks[32] = {NULL};
    while (handled < wanted && milliseconds() < until) {
        for (int i = 0; i < 1000; i++, rounds++) {
            void **block = &blocks[rounds * 7 % 32];
            size_t size = rounds * 977 % 9000;
            if (rounds % 3) {
                free(*block);
                *block = malloc(size);
            } else {
                *block = realloc(*block, size + 1);
            }
        }
    }
    struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, NULL);
    say("handled", handled);
    say("wrong", wrong);
    say("rounds", rounds);
    return 0;
}
