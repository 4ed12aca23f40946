/* The C half of scripts/bench: `measure` is the driver, `work` the program that it runs.
 *
 *   measure WHAT ROUNDS BATCH [REFERENCE]... { -- NAME BAR { [VAR=VALUE]... COMMAND [ARG]... | - REASON } }...
 *       Prints a table with a line for each variant. WHAT is `time` (how long the command takes, and what that is more
 *       than for the first variant), `added` (the same of a number that it prints) or `ratio` (the number alone). BAR
 *       is for the last column, `-` for none. `- REASON`: why a variant cannot run.
 *   work WORKLOAD plain|keepalive|timeout on|off|connected
 *       Prints microseconds per operation. If it is not `plain`, it makes the calls itself that a library would add. It
 *       fails if keepalive is not `on` or `off` on its TCP sockets (`connected`: off before connect, and on after it),
 *       or if LD_PRELOAD is not mapped. Some workloads do something else: `Rss` and `Private_Dirty` print KiB,
 *       `turn:PENDING:THREADS`, `over:...` and `begin:...` measure while so many connects are pending (see storm),
 *       `deadline` fails unless a connect that nobody answers ends with ETIMEDOUT within a second.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <math.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void check(int ok, const char *what) {
    if (ok)
        return;
    const char *preload = getenv("LD_PRELOAD");
    fprintf(stderr, "bench: failed: %s (errno %d; LD_PRELOAD=%s)\n", what, errno, preload ? preload : "");
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *values, int count, double part) {
    double sorted[count];
    memcpy(sorted, values, sizeof sorted);
    qsort(sorted, count, sizeof *sorted, ascending);
    return sorted[(int)(part * (count - 1) + 0.5)];
}

/* ---- driver ---- */

enum { VARIANTS = 16 };

struct variant {
    const char *name, *bar, *missing;
    char **argv, **environment;
    double *samples, *rounds; /* of this round; one value for each round */
};

/* The time that the command takes, in microseconds, or the number that it prints. */
static double sample(const struct variant *v, int in_time) {
    int out[2], status;
    pid_t pid;
    char text[64] = "";
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    check(pipe2(out, O_CLOEXEC) == 0 && posix_spawn_file_actions_adddup2(&actions, out[1], 1) == 0, "pipe");
    double start = now();
    check(posix_spawn(&pid, v->argv[0], &actions, NULL, v->argv, v->environment) == 0, v->argv[0]);
    check(waitpid(pid, &status, 0) == pid && status == 0, v->name);
    double time = (now() - start) / 1e3;
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    check(in_time || read(out[0], text, sizeof text - 1) > 0, v->name);
    close(out[0]);
    return in_time ? time : atof(text);
}

static FILE *figures; /* NULL: none wanted */

static double median_of(const double *values, int count, const char *name, const char *column, const char *bar) {
    double median = quantile(values, count, 0.5);
    if (figures)
        fprintf(figures, "%s\t%s\t%f\t%f\t%f\t%s\n", name, column, median, quantile(values, count, 0.25),
                quantile(values, count, 0.75), bar);
    return median;
}

static double print_median(const double *values, int count, const char *name, const char *column, const char *bar) {
    double median = median_of(values, count, name, column, bar);
    printf(" %10.*f", fabs(median) < 0.0005 ? 0 : fabs(median) < 100 ? 3 : 1, median);
    return median;
}

/* A ratio is between values of one round, so whatever slows the machine for longer cancels out. What a library adds
 * (memory, time of an exec) is counted from the first variant. */
static void print_table(const struct variant *variants, int count, int rounds, int added, char **references,
                        int reference_count) {
    printf("  %-26s %10s%s", "", "median", added ? "      added" : "");
    for (int r = 0; r < reference_count; r++)
        printf("%*s/ %s", 21 - (int)strlen(references[r]), "", references[r]);
    printf("\n");
    for (const struct variant *v = variants; v < variants + count; v++) {
        double last, values[rounds];
        printf("  %-26s", v->name);
        if (v->missing) {
            printf(" %10s  %s\n", "-", v->missing);
            continue;
        }
        last = print_median(v->rounds, rounds, v->name, "median", "-");
        for (int i = 0; i < rounds; i++)
            values[i] = v->rounds[i] - variants->rounds[i];
        if (added)
            last = print_median(values, rounds, v->name, "added", reference_count ? "-" : v->bar);
        for (int r = 0; r < reference_count; r++) {
            const struct variant *reference = variants;
            while (reference < variants + count - 1 && strcmp(reference->name, references[r]))
                reference++;
            for (int i = 0; i < rounds && !reference->missing; i++) {
                double base = added ? variants->rounds[i] : 0;
                values[i] = (v->rounds[i] - base) / (reference->rounds[i] - base);
            }
            last = reference->missing ? NAN
                                      : median_of(values, rounds, v->name, references[r],
                                                  r + 1 < reference_count ? "-" : v->bar);
            if (reference->missing)
                printf(" %22s", "-");
            else
                printf(" %6.3f (%6.3f-%6.3f)", last, quantile(values, rounds, 0.25), quantile(values, rounds, 0.75));
        }
        if (strcmp(v->bar, "-"))
            printf("  <= %s %s", v->bar, isnan(last) ? "not measured" : last <= atof(v->bar) ? "met" : "not met");
        printf("\n");
    }
}

static int measure(int argc, char **argv) {
    int in_time = !strcmp(argv[0], "time"), added = strcmp(argv[0], "ratio") != 0;
    int rounds = atoi(argv[1]), batch = atoi(argv[2]), count = 0, i = 3;
    struct variant variants[VARIANTS] = {0};
    while (i < argc && strcmp(argv[i], "--"))
        i++;
    int reference_count = i - 3;
    for (; i + 3 < argc && count < VARIANTS; count++) {
        struct variant *v = &variants[count];
        argv[i] = NULL; /* ends the command before */
        v->name = argv[i + 1];
        v->bar = argv[i + 2];
        char **words = argv + i + 3;
        for (v->argv = words; strchr(*v->argv, '=');)
            v->argv++;
        v->environment = calloc(v->argv - words + 1, sizeof *words);
        memcpy(v->environment, words, (v->argv - words) * sizeof *words);
        v->missing = strcmp(*v->argv, "-") ? NULL : v->argv[1];
        v->samples = calloc(batch, sizeof *v->samples);
        v->rounds = calloc(rounds, sizeof *v->rounds);
        while (i < argc && (!argv[i] || strcmp(argv[i], "--")))
            i++;
    }
    for (int round = -1; round < rounds; round++) { /* round -1 warms up */
        for (int b = 0; b < batch; b++) {
            int order[VARIANTS];
            for (int v = 0; v < count; v++) { /* shuffled: no variant always follows the same one */
                int at = rand() % (v + 1);
                order[v] = order[at];
                order[at] = v;
            }
            for (int n = 0; n < count; n++)
                if (!variants[order[n]].missing)
                    variants[order[n]].samples[b] = sample(&variants[order[n]], in_time);
        }
        for (int v = 0; v < count && round >= 0; v++) /* noise only adds time: less of it is lower */
            variants[v].rounds[round] = quantile(variants[v].samples, batch, 0.25);
    }
    if (getenv("BENCH_FIGURES"))
        check((figures = fopen(getenv("BENCH_FIGURES"), "a")) != NULL, "BENCH_FIGURES");
    print_table(variants, count, rounds, added, argv + 3, reference_count);
    return figures && fclose(figures) != 0;
}

/* ---- programs ---- */

enum { BLOCKS = 24, OPERATIONS = 100, TIMEOUT_MS = 5000 };
enum { PLAIN, KEEPALIVE, TIMEOUT } inline_calls;
static const struct { int name, value; } values[] = {{TCP_KEEPIDLE, 60}, {TCP_KEEPINTVL, 10}, {TCP_KEEPCNT, 3}};
static union { struct sockaddr any; struct sockaddr_in v4; struct sockaddr_in6 v6; } server;
static socklen_t server_len;
static int family = AF_INET, listener;

static void set(int fd, int level, int name, int value) {
    check(setsockopt(fd, level, name, &value, sizeof value) == 0, "setsockopt");
}

/* What belongs to the benchmark itself is asked of the kernel, past any preloaded library. */
static int option(int fd, int level, int name) {
    int value = 0;
    socklen_t len = sizeof value;
    check(syscall(SYS_getsockopt, fd, level, name, &value, &len) == 0, "getsockopt");
    return value;
}

static int tcp_socket(int flags) {
    int fd = socket(family, SOCK_STREAM | flags, 0);
    check(fd >= 0, "socket");
    if (inline_calls != PLAIN) {
        set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        for (size_t i = 0; i < sizeof values / sizeof *values; i++)
            set(fd, IPPROTO_TCP, values[i].name, values[i].value);
    }
    return fd;
}

static int to_server(int fd) { return connect(fd, &server.any, server_len); }

/* By a reset (SO_LINGER of 0), so that no port stays in TIME_WAIT. */
static void close_connected(int fd) {
    struct linger reset = {1, 0};
    check(syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0, "SO_LINGER");
    close(fd);
}

static void tcp(void) { close(tcp_socket(0)); }
static void udp(void) { close(socket(AF_INET, SOCK_DGRAM, 0)); }
static void call(void) { syscall(SYS_getppid); }
/* What the kernel takes for each call of a process with any seccomp filter. */
static void allow_all(void) {
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {1, &allow};
    check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
    check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program) == 0, "seccomp");
}
static void local(void) { close(socket(AF_UNIX, SOCK_STREAM, 0)); }

/* A command of a shell script, without its exec. */
static void forked(void) {
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    check(child > 0 && waitpid(child, NULL, 0) == child, "fork");
}

static void blocking(void) {
    int fd = tcp_socket(0);
    if (inline_calls == TIMEOUT) {
        struct pollfd wait = {fd, POLLOUT, 0};
        struct timeval own;
        socklen_t len = sizeof own;
        int flags = fcntl(fd, F_GETFL);
        check(fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0, "F_SETFL");
        check(to_server(fd) == -1 && errno == EINPROGRESS, "connect");
        check(getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &own, &len) == 0, "SO_SNDTIMEO");
        check(poll(&wait, 1, TIMEOUT_MS) == 1 && to_server(fd) == 0, "second connect");
        check(fcntl(fd, F_SETFL, flags) == 0, "F_SETFL");
    } else {
        check(to_server(fd) == 0, "connect");
    }
    close_connected(fd);
}

static void nonblocking(void) {
    int fd = tcp_socket(SOCK_NONBLOCK), before = 0, error = 0;
    socklen_t len = sizeof error;
    struct pollfd wait = {fd, POLLOUT, 0};
    if (inline_calls == TIMEOUT) {
        check(getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &before, &len) == 0, "TCP_USER_TIMEOUT");
        set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, TIMEOUT_MS);
    }
    check(to_server(fd) == -1 && errno == EINPROGRESS && poll(&wait, 1, TIMEOUT_MS) == 1, "connect");
    if (inline_calls == TIMEOUT)
        set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, before);
    check(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error == 0, "SO_ERROR");
    close_connected(fd);
}

/* Waits that something is ready for: of connections that the program has made, the last has a byte to read. */
static struct pollfd waits_for[9900];
static int waiting, set_of_all;

static void wait_by_poll(void) { check(poll(waits_for, waiting, 60000) == 1, "poll"); }

static void wait_by_select(void) {
    struct timeval time = {60, 0};
    fd_set set;
    FD_ZERO(&set);
    for (int i = 0; i < waiting; i++)
        FD_SET(waits_for[i].fd, &set);
    check(select(waits_for[waiting - 1].fd + 1, &set, NULL, NULL, &time) == 1, "select");
}

static void wait_by_epoll(void) {
    struct epoll_event event;
    check(epoll_wait(set_of_all, &event, 1, -1) == 1, "epoll_wait");
}

static void connect_to_wait(int count) {
    struct rlimit files = {2 * count + 64, 2 * count + 64};
    struct linger reset = {1, 0};
    check(count < 400 || setrlimit(RLIMIT_NOFILE, &files) == 0, "RLIMIT_NOFILE: more than this user may have");
    set_of_all = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN};
        int fd = tcp_socket(0), peer;
        waits_for[i] = (struct pollfd){fd, POLLIN, 0};
        check(to_server(fd) == 0 && (peer = syscall(SYS_accept4, listener, NULL, NULL, 0)) >= 0, "connect");
        check(syscall(SYS_setsockopt, peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0, "SO_LINGER");
        check(syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0, "SO_LINGER");
        check(epoll_ctl(set_of_all, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
        check(i + 1 < count || syscall(SYS_write, peer, "x", 1) == 1, "write");
    }
    waiting = count;
}

/* A listener that no preloaded library tunes: only the client's side is measured. */
static void listen_on_loopback(int backlog) {
    memset(&server, 0, sizeof server); /* any port */
    server.any.sa_family = family;
    server_len = family == AF_INET ? sizeof server.v4 : sizeof server.v6;
    if (family == AF_INET)
        server.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        server.v6.sin6_addr = in6addr_loopback;
    listener = syscall(SYS_socket, family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    check(syscall(SYS_bind, listener, &server, server_len) == 0, "bind");
    check(syscall(SYS_listen, listener, backlog) == 0, "listen");
    check(syscall(SYS_getsockname, listener, &server, &server_len) == 0, "getsockname");
}

static void check_keepalive(int fd, int keepalive) {
    check(option(fd, SOL_SOCKET, SO_KEEPALIVE) == keepalive, "SO_KEEPALIVE is not as expected");
    for (size_t i = 0; keepalive && i < sizeof values / sizeof *values; i++)
        check(option(fd, IPPROTO_TCP, values[i].name) == values[i].value, "a keepalive value is not as expected");
}

/* ld.so only warns of a library that it cannot preload, and goes on without it. */
static void check_preload(int keepalive) {
    char path[PATH_MAX], line[PATH_MAX + 256];
    const char *preload = getenv("LD_PRELOAD");
    int found = !preload, fd = tcp_socket(0), datagrams = socket(AF_INET, SOCK_DGRAM, 0);
    check(!preload || realpath(preload, path) != NULL, "there is no such library");
    FILE *maps = fopen("/proc/self/maps", "r");
    while (!found && maps && fgets(line, sizeof line, maps))
        found = strstr(line, path) != NULL;
    check(found && maps && fclose(maps) == 0, "the library is not in /proc/self/maps");
    check_keepalive(fd, keepalive);
    check(option(datagrams, SOL_SOCKET, SO_KEEPALIVE) == 0, "SO_KEEPALIVE is on for UDP");
    close(fd);
    close(datagrams);
}

/* The queue of this listener is full: connects to it go on until their timeout. */
static void fill_queue(void) {
    listen_on_loopback(0);
    for (int i = 0; i < 2; i++)
        syscall(SYS_connect, syscall(SYS_socket, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), &server, server_len);
}

static int deadline(void) {
    fill_queue();
    double start = now();
    check(to_server(tcp_socket(0)) == -1 && errno == ETIMEDOUT && now() - start < 1e9, "connect does not time out");
    return 0;
}

/* A field of proc(5)'s smaps, counted page by page; the VmRSS of /proc/self/status may lag behind. */
static int memory(const char *field) {
    char line[256];
    size_t len = strlen(field);
    double kib = 0;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file && kib == 0 && fgets(line, sizeof line, file))
        if (!strncmp(line, field, len))
            kib = atof(line + len + 1);
    check(kib > 0, "/proc/self/smaps_rollup");
    return printf("%.0f\n", kib) < 0;
}

/* ---- many connects at a time ---- */

/* Of all threads of this process: nothing here sleeps, and a busy machine adds less to it than to the time of day. */
static double cpu_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

enum { TURNS = 4000, THREADS = 64 };

/* An epoll loop in which one descriptor is always ready. */
struct loop {
    pthread_t thread;
    int set, turns;
};

static void *turn(void *argument) {
    struct loop *loop = argument;
    struct epoll_event events[8];
    for (int i = 0; i < loop->turns; i++)
        check(epoll_wait(loop->set, events, 8, 1000) == 1, "epoll_wait");
    return NULL;
}

/* KIND:PENDING:THREADS. `turn`: a turn of an epoll loop while so many connects are pending, which are in the loops' sets;
 * `over`: the same after they have been given up; `begin`: a connect to another port, as in `nonblocking`. */
static int storm(const char *kind) {
    static struct loop loops[THREADS];
    static int fds[20000];
    const struct rlimit most = {1 << 16, 1 << 16};
    int pending = 0, threads = 1, ready = eventfd(1, EFD_CLOEXEC);
    double times[BLOCKS];
    check(sscanf(strchr(kind, ':') ?: "", ":%d:%d", &pending, &threads) == 2, "KIND:PENDING:THREADS");
    check(pending <= 20000 && threads <= THREADS, "too many");
    setrlimit(RLIMIT_NOFILE, &most);
    fill_queue();
    for (int t = 0; t < threads; t++) {
        struct epoll_event event = {.events = EPOLLIN};
        loops[t].set = epoll_create1(EPOLL_CLOEXEC);
        loops[t].turns = TURNS / threads;
        check(epoll_ctl(loops[t].set, EPOLL_CTL_ADD, ready, &event) == 0, "epoll_ctl");
    }
    for (int i = 0; i < pending; i++) {
        struct epoll_event event = {.events = EPOLLOUT};
        fds[i] = tcp_socket(SOCK_NONBLOCK);
        check(to_server(fds[i]) == -1 && errno == EINPROGRESS, "connect");
        check(epoll_ctl(loops[i % threads].set, EPOLL_CTL_ADD, fds[i], &event) == 0, "epoll_ctl");
    }
    for (int i = 0; i < pending && !strncmp(kind, "over", 4); i++)
        close(fds[i]);
    if (!strncmp(kind, "begin", 5))
        listen_on_loopback(OPERATIONS);
    for (int block = -1; block < BLOCKS; block++) {
        double start = cpu_time();
        int operations = !strncmp(kind, "begin", 5) ? OPERATIONS : threads * (TURNS / threads);
        if (operations == OPERATIONS) {
            for (int i = 0; i < OPERATIONS; i++)
                nonblocking();
        } else if (threads == 1) {
            turn(loops);
        } else {
            for (int t = 0; t < threads; t++)
                check(pthread_create(&loops[t].thread, NULL, turn, &loops[t]) == 0, "pthread_create");
            for (int t = 0; t < threads; t++)
                pthread_join(loops[t].thread, NULL);
        }
        if (block >= 0)
            times[block] = (cpu_time() - start) / operations / 1e3;
        for (int fd; !strncmp(kind, "begin", 5) && (fd = syscall(SYS_accept4, listener, NULL, NULL, 0)) >= 0;)
            syscall(SYS_close, fd);
    }
    printf("%f\n", quantile(times, BLOCKS, 0.25));
    return 0;
}

static int work(const char *name, const char *style, const char *keepalive) {
    static const struct { const char *name; void (*run)(void); int connections; } workloads[] = {
        {"tcp", tcp, 0}, {"udp", udp, 0}, {"unix", local, 0}, {"blocking", blocking, 0}, {"blocking6", blocking, 0},
        {"nonblocking", nonblocking, 0}, {"fork", forked, 0}, {"call", call, 0}, {"filtered", call, 0},
        {"poll", wait_by_poll, 1}, {"poll10", wait_by_poll, 10},
        {"select", wait_by_select, 1}, {"select10", wait_by_select, 10}, {"epoll", wait_by_epoll, 1},
        {"epoll9900", wait_by_epoll, 9900}, {0}}, *w;
    double times[BLOCKS];
    family = !strcmp(name, "blocking6") ? AF_INET6 : AF_INET;
    inline_calls = !strcmp(style, "timeout") ? TIMEOUT : !strcmp(style, "keepalive") ? KEEPALIVE : PLAIN;
    check_preload(!strcmp(keepalive, "on"));
    if (!strcmp(name, "deadline"))
        return deadline();
    if (!strcmp(name, "Rss") || !strcmp(name, "Private_Dirty"))
        return memory(name);
    if (strchr(name, ':'))
        return storm(name);
    for (w = workloads; w->name && strcmp(w->name, name);)
        w++;
    check(w->name != NULL, name);
    listen_on_loopback(OPERATIONS);
    if (!strcmp(name, "filtered"))
        allow_all();
    if (w->connections)
        connect_to_wait(w->connections);
    if (!strcmp(keepalive, "connected")) {
        int fd = tcp_socket(0);
        check(to_server(fd) == 0, "connect");
        check_keepalive(fd, 1);
        close_connected(fd);
    }
    for (int block = -1; block < BLOCKS; block++) { /* block -1 warms up */
        double start = now();
        for (int i = 0; i < OPERATIONS; i++)
            w->run();
        if (block >= 0)
            times[block] = (now() - start) / OPERATIONS / 1e3;
        for (int fd; (fd = syscall(SYS_accept4, listener, NULL, NULL, 0)) >= 0;)
            syscall(SYS_close, fd);
    }
    printf("%f\n", quantile(times, BLOCKS, 0.25));
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 8 && !strcmp(argv[1], "measure"))
        return measure(argc - 2, argv + 2);
    check(argc == 5 && !strcmp(argv[1], "work"), "usage: see scripts/bench --help");
    alarm(30); /* whatever becomes of the driver */
    return work(argv[2], argv[3], argv[4]);
}
