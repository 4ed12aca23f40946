/* The C half of scripts/soak. Every program ends by itself, by an alarm if need be.
 *
 *   free COUNT
 *       Prints loopback ports that nobody uses.
 *   compare SECONDS SLICE { PORT SERVER CLIENT } { PORT SERVER CLIENT }
 *       Two nginx servers (process ids of their workers), and a wrk for each of them that runs already: one wrk at a
 *       time goes on, for SLICE seconds, and the other is stopped. Prints the quartiles of the throughput of the second
 *       server as a ratio to the first, of its processor time per request, the median throughput of the first and the
 *       second, the requests that the second has served, and the number of pairs. It ends both wrk.
 *   targets SECONDS
 *       Prints three ports: one that accepts and sends a byte, one that refuses, one that never answers.
 *   storm SECONDS blocking|epoll KEEPIDLE USER_TIMEOUT TIMEOUT LIVE REFUSED HOLE
 *       A storm of connects to the three ports. Each has to end as it should, within TIMEOUT ms and what is tolerated,
 *       with file status flags as before; a connection has to have KEEPIDLE and USER_TIMEOUT. Prints how many
 *       connected, were refused, timed out, ended wrongly; the earliest and the latest timeout in ms; descriptors and
 *       memory in KiB, each after the first fifth of the time and at the end.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void check(int ok, const char *what) {
    if (ok)
        return;
    fprintf(stderr, "soak: failed: %s (errno %d)\n", what, errno);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

/* A socket that is bound to a free port. */
static int bound(int *port) {
    struct sockaddr_in a = loopback(0);
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    check(bind(fd, (struct sockaddr *)&a, len) == 0, "bind");
    check(getsockname(fd, (struct sockaddr *)&a, &len) == 0, "getsockname");
    *port = ntohs(a.sin_port);
    return fd;
}

/* ---- two servers, compared ---- */

enum { PAIRS = 20000, WARM_UP = 4 };

struct server {
    int fd;
    pid_t pid, wrk;
    double rate, cpu, served; /* of the last slice: requests per second, seconds per request; since the start */
};

/* Requests so far, by stub_status of nginx. */
static double requests(const struct server *s) {
    static const char question[] = "GET /status HTTP/1.1\r\nHost: soak\r\n\r\n";
    char answer[2048], *end = answer;
    double count;
    check(write(s->fd, question, sizeof question - 1) == sizeof question - 1, "write to nginx");
    for (;;) {
        ssize_t n = read(s->fd, end, answer + sizeof answer - 1 - end);
        check(n > 0, "read from nginx");
        end += n;
        *end = 0;
        const char *line = strstr(answer, "requests\n");
        if (line && strstr(line, "Waiting:")) {
            check(sscanf(line, "requests %*f %*f %lf", &count) == 1, "stub_status");
            return count;
        }
    }
}

/* Processor time so far, in seconds. */
static double cpu_time(const struct server *s) {
    char path[64];
    double nanoseconds;
    snprintf(path, sizeof path, "/proc/%d/schedstat", s->pid);
    FILE *file = fopen(path, "r");
    check(file && fscanf(file, "%lf", &nanoseconds) == 1 && fclose(file) == 0, path);
    return nanoseconds / 1e9;
}

static void run_slice(struct server *s, double slice) {
    struct timespec time = {0, slice * 1e9};
    double count = requests(s), cpu = cpu_time(s), start = now();
    check(kill(s->wrk, SIGCONT) == 0, "wrk has ended");
    nanosleep(&time, NULL);
    kill(s->wrk, SIGSTOP);
    double took = now() - start;
    count = requests(s) - count;
    s->rate = count / took;
    s->cpu = (cpu_time(s) - cpu) / count;
    s->served += count;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *values, int count, double part) {
    qsort(values, count, sizeof *values, ascending);
    return values[(int)(part * (count - 1) + 0.5)];
}

/* The slices are short, and the two of a pair are neighbours, so that what else the machine does hits both alike. */
static int compare(double seconds, double slice, char **arguments) {
    static double ratios[PAIRS], cpu_ratios[PAIRS], rates[2][PAIRS];
    struct server servers[2] = {0};
    int pairs = 0;
    for (int i = 0; i < 2; i++, arguments += 3) {
        struct sockaddr_in a = loopback(atoi(arguments[0]));
        servers[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        check(connect(servers[i].fd, (struct sockaddr *)&a, sizeof a) == 0, "connect to nginx");
        servers[i].pid = atoi(arguments[1]);
        servers[i].wrk = atoi(arguments[2]);
        kill(servers[i].wrk, SIGSTOP);
    }
    double end = now() + seconds;
    for (int pair = 0; now() < end && pairs < PAIRS; pair++) {
        for (int i = 0; i < 2; i++)
            run_slice(&servers[i ^ (pair & 1)], slice);
        if (pair < WARM_UP)
            continue;
        ratios[pairs] = servers[1].rate / servers[0].rate;
        cpu_ratios[pairs] = servers[1].cpu / servers[0].cpu;
        for (int i = 0; i < 2; i++)
            rates[i][pairs] = servers[i].rate;
        pairs++;
    }
    for (int i = 0; i < 2; i++) {
        /* It prints its statistics, with the errors that it had. Only the first thread ends at once. */
        syscall(SYS_tgkill, servers[i].wrk, servers[i].wrk, SIGINT);
        kill(servers[i].wrk, SIGCONT);
    }
    check(pairs > 0, "no pair of slices in this time");
    for (double part = 0.25; part < 1; part += 0.25)
        printf("%.3f ", quantile(ratios, pairs, part));
    for (double part = 0.25; part < 1; part += 0.25)
        printf("%.3f ", quantile(cpu_ratios, pairs, part));
    printf("%.0f %.0f ", quantile(rates[0], pairs, 0.5), quantile(rates[1], pairs, 0.5));
    printf("%.0f %d\n", servers[1].served, pairs);
    return 0;
}

/* ---- what the storm connects to ---- */

static _Noreturn void targets(void) {
    int live, refused, hole, listener = bound(&live), full = bound(&hole);
    check(bound(&refused) >= 0 && listen(listener, SOMAXCONN) == 0 && listen(full, 0) == 0, "listen");
    /* The queue of `full` has room for one connection, and drops any further SYN. */
    struct sockaddr_in a = loopback(hole);
    struct pollfd last = {-1, POLLOUT, 0};
    for (int i = 0; i < 4; i++) {
        last.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        check(connect(last.fd, (struct sockaddr *)&a, sizeof a) == -1 && errno == EINPROGRESS, "connect");
    }
    check(poll(&last, 1, 200) == 0, "a port that never answers has answered");
    printf("%d %d %d\n", live, refused, hole);
    fflush(stdout);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd >= 0) {
            send(fd, "x", 1, MSG_NOSIGNAL);
            close(fd);
        }
    }
}

/* ---- the storm ---- */

enum { LIVE, REFUSED, HOLE, THREADS_BLOCKING = 24, THREADS_EPOLL = 4, SLOTS = 64 };
static const int expected[] = {0, ECONNREFUSED, ETIMEDOUT};
static struct sockaddr_in ports[3];
static int keepidle, user_timeout, timeout_ms;
static double phase_end;
static int wrong;
static atomic_int done[3], earliest = 1 << 30, latest;

/* A deadline may be missed by this much, on a machine whose processors are all busy. */
enum { LATE_MS = 500, LATE_EPOLL_MS = 1000 };

/* What the storm itself wants to know is asked of the kernel, past the preloaded library. */
static int option(int fd, int level, int name) {
    int value = -1;
    socklen_t len = sizeof value;
    return syscall(SYS_getsockopt, fd, level, name, &value, &len) == 0 ? value : -1;
}

static int status_flags(int fd) { return syscall(SYS_fcntl, fd, F_GETFL); }

static int pick(unsigned *seed, int one_hole_in) {
    return rand_r(seed) % one_hole_in == 0 ? HOLE : rand_r(seed) % 2 ? LIVE : REFUSED;
}

/* What went wrong, and how often. */
static struct {
    const char *what;
    int target, count;
    double last;
} reports[32];

static void report(int target, const char *what, double value) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    int i = 0;
    pthread_mutex_lock(&mutex);
    while (i < 31 && reports[i].what && (reports[i].what != what || reports[i].target != target))
        i++;
    reports[i].what = what;
    reports[i].target = target;
    reports[i].last = value;
    reports[i].count++;
    wrong++;
    pthread_mutex_unlock(&mutex);
}

static void print_reports(const char *kind) {
    static const char *const names[] = {"live", "refusing", "black-hole"};
    for (int i = 0; i < 32 && reports[i].what; i++)
        fprintf(stderr, "soak: storm, %s: %s port: %s (%.0f), %d times\n", kind, names[reports[i].target],
                reports[i].what, reports[i].last, reports[i].count);
}

/* Whether a connect has ended as it should. */
static int verify(int fd, int target, int error, int flags, double start, int late) {
    int ms = (now() - start) * 1000, old;
    if (error != expected[target])
        report(target, "wrong errno", error);
    else if (target == HOLE && (ms < timeout_ms || ms > timeout_ms + late))
        report(target, "timed out at the wrong time, in ms", ms);
    else if (target != HOLE && ms > timeout_ms + late)
        report(target, "took too long, in ms", ms);
    else if (status_flags(fd) != flags)
        report(target, "the file status flags are changed", status_flags(fd));
    else if (option(fd, SOL_SOCKET, SO_ERROR) != 0)
        report(target, "SO_ERROR is left behind", 0);
    else if (option(fd, SOL_SOCKET, SO_KEEPALIVE) != 1 || option(fd, IPPROTO_TCP, TCP_KEEPIDLE) != keepidle)
        report(target, "keepalive is not as set", option(fd, IPPROTO_TCP, TCP_KEEPIDLE));
    else if (target == LIVE && option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) != user_timeout)
        report(target, "the user timeout is not as set", option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT));
    else {
        atomic_fetch_add(&done[target], 1);
        if (target == HOLE) {
            for (old = earliest; ms < old && !atomic_compare_exchange_weak(&earliest, &old, ms);)
                ;
            for (old = latest; ms > old && !atomic_compare_exchange_weak(&latest, &old, ms);)
                ;
        }
        return 1;
    }
    return 0;
}

/* By a reset (SO_LINGER of 0), so that no port stays in TIME_WAIT. */
static void close_reset(int fd) {
    struct linger reset = {1, 0};
    syscall(SYS_setsockopt, fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
}

static int connect_blocking(int fd, int target) {
    double start = now();
    int flags = status_flags(fd), r = connect(fd, (struct sockaddr *)&ports[target], sizeof *ports);
    char byte;
    int ok = verify(fd, target, r == 0 ? 0 : errno, flags, start, LATE_MS);
    if (ok && target == LIVE && read(fd, &byte, 1) != 1)
        report(target, "no byte arrives", errno);
    return ok;
}

static void *blocking(void *seed) {
    while (now() < phase_end) {
        int target = pick(seed, 128), fd = socket(AF_INET, SOCK_STREAM, 0);
        check(fd >= 0, "socket");
        /* After a timeout the same descriptor can be connected again. */
        if (connect_blocking(fd, target) && target == HOLE)
            connect_blocking(fd, LIVE);
        close_reset(fd);
    }
    return NULL;
}

struct slot {
    int fd, target, flags, connected;
    unsigned generation; /* tells an event of this descriptor from one of an earlier owner of the slot */
    double start;
};

static void watch(int epoll, int operation, const struct slot *s, int index, int events) {
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)s->generation << 32 | index};
    check(epoll_ctl(epoll, operation, s->fd, &event) == 0, "epoll_ctl");
}

static void end(struct slot *s) {
    close_reset(s->fd);
    s->fd = -1;
    s->generation++;
}

static void begin(int epoll, struct slot *s, int index, unsigned *seed) {
    s->target = pick(seed, SLOTS);
    s->connected = 0;
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    check(s->fd >= 0, "socket");
    s->flags = status_flags(s->fd);
    s->start = now();
    int r = connect(s->fd, (struct sockaddr *)&ports[s->target], sizeof *ports);
    if (r == -1 && errno == EINPROGRESS) {
        watch(epoll, EPOLL_CTL_ADD, s, index, EPOLLOUT);
    } else {
        report(s->target, "connect does not answer EINPROGRESS", r == 0 ? 0 : errno);
        end(s);
    }
}

static void proceed(int epoll, struct slot *s, int index) {
    int error = -1;
    socklen_t len = sizeof error;
    char byte;
    if (s->connected) {
        if (recv(s->fd, &byte, 1, 0) != 1)
            report(s->target, "no byte arrives", errno);
        end(s);
        return;
    }
    check(getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0, "SO_ERROR");
    s->connected = verify(s->fd, s->target, error, s->flags, s->start, LATE_EPOLL_MS) && s->target == LIVE;
    if (s->connected)
        watch(epoll, EPOLL_CTL_MOD, s, index, EPOLLIN);
    else
        end(s);
}

static void *nonblocking(void *seed) {
    struct slot slots[SLOTS] = {0};
    struct epoll_event events[SLOTS];
    int epoll = epoll_create1(EPOLL_CLOEXEC), open;
    for (int i = 0; i < SLOTS; i++)
        slots[i].fd = -1;
    do {
        open = 0;
        for (int i = 0; i < SLOTS; i++) {
            struct slot *s = &slots[i];
            if (s->fd >= 0 && now() - s->start > (timeout_ms + 2 * LATE_EPOLL_MS) / 1e3) {
                report(s->target, "nothing is reported within ms", timeout_ms + 2 * LATE_EPOLL_MS);
                end(s);
            }
            if (s->fd < 0 && now() < phase_end)
                begin(epoll, s, i, seed);
            open += s->fd >= 0;
        }
        int n = epoll_wait(epoll, events, SLOTS, 100);
        for (int i = 0; i < n; i++) {
            int index = (uint32_t)events[i].data.u64;
            if (slots[index].generation == events[i].data.u64 >> 32)
                proceed(epoll, &slots[index], index);
            else
                report(slots[index].target, "an event of a descriptor that was closed before", events[i].events);
        }
    } while (open > 0 || now() < phase_end);
    close(epoll);
    return NULL;
}

static void phase(void *(*client)(void *), int threads, double seconds) {
    static unsigned seeds[THREADS_BLOCKING];
    pthread_t ids[THREADS_BLOCKING];
    phase_end = now() + seconds;
    for (int i = 0; i < threads; i++) {
        seeds[i] += i + 1;
        check(pthread_create(&ids[i], NULL, client, &seeds[i]) == 0, "pthread_create");
    }
    for (int i = 0; i < threads; i++)
        pthread_join(ids[i], NULL);
}

static int open_descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    check(directory != NULL, "/proc/self/fd");
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

/* Anonymous memory in KiB, counted page by page; the VmRSS of /proc/self/status may lag behind. */
static int memory(void) {
    char line[256];
    int kib = -1;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file && kib < 0 && fgets(line, sizeof line, file))
        sscanf(line, "Anonymous: %d", &kib);
    check(kib >= 0 && fclose(file) == 0, "/proc/self/smaps_rollup");
    return kib;
}

static int storm(const char *kind, double seconds, char **numbers) {
    int is_blocking = !strcmp(kind, "blocking"), threads = is_blocking ? THREADS_BLOCKING : THREADS_EPOLL;
    void *(*client)(void *) = is_blocking ? blocking : nonblocking;
    keepidle = atoi(numbers[0]);
    user_timeout = atoi(numbers[1]);
    timeout_ms = atoi(numbers[2]);
    for (int i = 0; i < 3; i++)
        ports[i] = loopback(atoi(numbers[3 + i]));
    phase(client, threads, seconds / 5);
    memory(); /* its own buffers count as well */
    int descriptors = open_descriptors(), kib = memory();
    phase(client, threads, seconds * 4 / 5);
    print_reports(kind);
    printf("%d %d %d %d %d %d ", done[LIVE], done[REFUSED], done[HOLE], wrong, earliest, latest);
    printf("%d %d %d %d\n", descriptors, open_descriptors(), kib, memory());
    return 0;
}

int main(int argc, char **argv) {
    check(argc >= 3, "usage: see scripts/soak --help");
    double seconds = atof(argv[2]);
    alarm(seconds + 30); /* whatever becomes of scripts/soak */
    if (!strcmp(argv[1], "free")) {
        for (int i = 0, port; i < atoi(argv[2]); i++) {
            bound(&port);
            printf("%d\n", port);
        }
        return 0;
    }
    if (!strcmp(argv[1], "targets"))
        targets();
    if (!strcmp(argv[1], "compare") && argc == 10)
        return compare(seconds, atof(argv[3]), argv + 4);
    if (!strcmp(argv[1], "storm") && argc == 10)
        return storm(argv[3], seconds, argv + 4);
    check(0, "usage: see scripts/soak --help");
    return 2;
}
