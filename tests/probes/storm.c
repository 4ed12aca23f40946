/* storm IP PORT COUNT...: the calls of an event loop, made while COUNT nonblocking connects to PORT go on, which never answers: by
 * 64 threads with none and with the last COUNT between them, by one with each COUNT, and in the end when all have been given up.
 * callgrind counts the instructions of repeated() up to each measured(), which says what they were of. */
#include "probe.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

/* What is known of descriptors below LOW is found in fewer instructions than of others: none of those that count is. */
enum { TIMES = 100, THREADS = 64, MOST = 1 << 16, LOW = 1024 };
static union address peer;
static socklen_t len;
static int ready, fds[MOST];
static pthread_barrier_t all;

/* An epoll set in which one descriptor is always ready. */
static int loop(void) {
    struct epoll_event event = {.events = EPOLLIN};
    int set = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ctl(set, EPOLL_CTL_ADD, ready, &event) != 0)
        exit(1);
    return set;
}

static int begun(void) {
    int fd = socket(peer.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(fd, &peer.any, len) != -1 || errno != EINPROGRESS)
        exit(2);
    return fd;
}

static void begin(int set, int first, int count) {
    for (int i = first; i < count; i++) {
        struct epoll_event event = {.events = EPOLLOUT};
        fds[i] = begun();
        if (epoll_ctl(set, EPOLL_CTL_ADD, fds[i], &event) != 0)
            exit(1);
    }
}

static void give_up(int first, int count) {
    for (int i = first; i < count; i++)
        close(fds[i]);
}

static void turn(int set) {
    struct epoll_event event;
    if (epoll_wait(set, &event, 1, -1) != 1)
        exit(3);
}

static void wait_for_one(int set) {
    struct pollfd entry = {.fd = ready, .events = POLLIN};
    (void)set;
    if (poll(&entry, 1, -1) != 1)
        exit(3);
}

static void one_more(int set) {
    (void)set;
    close(begun());
}

/* Not inlined: callgrind knows them by their names. */
__attribute__((noinline)) void repeated(void (*call)(int), int set) {
    for (int i = 0; i < TIMES; i++)
        call(set);
}

__attribute__((noinline)) void measured(const char *call, const char *state) { printf("%s: %s\n", call, state); }

static void measure(int set, const char *state) {
    static const struct { const char *name; void (*run)(int); } calls[] = {
        {"epoll_wait", turn}, {"poll", wait_for_one}, {"connect and close", one_more}};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        calls[i].run(set); /* what happens once: functions are bound, pages are mapped */
        repeated(calls[i].run, set);
        measured(calls[i].name, state);
    }
}

static void *share(void *slice) {
    int *range = slice, set = loop();
    begin(set, range[0], range[1]);
    pthread_barrier_wait(&all);
    repeated(turn, set);
    pthread_barrier_wait(&all);
    give_up(range[0], range[1]);
    close(set);
    return NULL;
}

static void threads(const char *state) {
    int count = atoi(state);
    pthread_t ids[THREADS];
    int ranges[THREADS][2];
    pthread_barrier_init(&all, NULL, THREADS);
    for (int i = 0; i < THREADS; i++) {
        ranges[i][0] = count * i / THREADS;
        ranges[i][1] = count * (i + 1) / THREADS;
        if (pthread_create(&ids[i], NULL, share, ranges[i]) != 0)
            exit(4);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(ids[i], NULL);
    measured("epoll_wait by 64 threads", state);
}

int main(int count, char **args) {
    int pending = 0;
    peer = address(args[1], args[2], &len);
    ready = eventfd(1, EFD_CLOEXEC);
    while (dup(ready) < LOW)
        ;
    int set = loop();
    threads("0"); /* first: libc's own waits take more instructions from the first thread on */
    for (int i = 3; i < count && atoi(args[i]) <= MOST; i++) {
        begin(set, pending, atoi(args[i]));
        pending = atoi(args[i]);
        measure(set, args[i]);
    }
    say("limited", pending > 0 && kernel_option(fds[pending - 1], IPPROTO_TCP, TCP_USER_TIMEOUT) > 0);
    give_up(0, pending);
    threads(args[count - 1]);
    measure(set, "over");
    return 0;
}
