/* waits MODE IP PORT: every way to wait for a connection that is made for it, and whose peer says nothing. MODE:
 * each: to its end, with a malloc that aborts meanwhile;
 * cancel, async: until the thread is cancelled, at once with `async`; cleaned is 2 where SIGUSR1 was held back then;
 * calls: what is ready at once, nothing within no time, and within 20 ms, each between BEGIN and END on standard error. */
#include "probe.h"
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>

static volatile int inside;

static void check(void) {
    if (inside) {
        static const char text[] = "allocated inside a hook\n";
        syscall(SYS_write, 1, text, sizeof text - 1);
        abort();
    }
}

#ifdef __GLIBC__
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

void *malloc(size_t n) { check(); return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { check(); return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { check(); return __libc_realloc(p, n); }
void free(void *p) { check(); __libc_free(p); }
#endif

static const char *mode;
static union address peer;
static socklen_t len;
static sigset_t mask; /* holds SIGUSR1 back */

static int connected(void) {
    int fd = socket(peer.any.sa_family, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, &peer.any, len) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        exit(3);
    return fd;
}

/* Each waits for events of poll(2), which are those of epoll(7) as well, for so many milliseconds; -1: for ever. */

static struct timespec *spec(int ms, struct timespec *room) {
    *room = (struct timespec){ms / 1000, ms % 1000 * 1000000L};
    return ms < 0 ? NULL : room;
}

static int by_poll(int fd, int events, int ms) {
    struct pollfd p = {fd, events, 0};
    return poll(&p, 1, ms);
}

static int by_ppoll(int fd, int events, int ms) {
    struct pollfd p = {fd, events, 0};
    struct timespec time;
    return ppoll(&p, 1, spec(ms, &time), &mask);
}

static fd_set *set(int fd, int wanted, fd_set *room) {
    FD_ZERO(room);
    FD_SET(fd, room);
    return wanted ? room : NULL;
}

static int by_select(int fd, int events, int ms) {
    fd_set read, write;
    struct timeval time = {ms / 1000, ms % 1000 * 1000L};
    return select(fd + 1, set(fd, events & POLLIN, &read), set(fd, events & POLLOUT, &write), NULL, ms < 0 ? NULL : &time);
}

static int by_pselect(int fd, int events, int ms) {
    fd_set read, write;
    struct timespec time;
    fd_set *reads = set(fd, events & POLLIN, &read), *writes = set(fd, events & POLLOUT, &write);
    return pselect(fd + 1, reads, writes, NULL, spec(ms, &time), &mask);
}

static int watching(int fd, int events) {
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = events};
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        exit(4);
    return epoll;
}

static int by_epoll_wait(int fd, int events, int ms) {
    struct epoll_event event;
    int epoll = watching(fd, events), result = epoll_wait(epoll, &event, 1, ms);
    close(epoll);
    return result;
}

static int by_epoll_pwait(int fd, int events, int ms) {
    struct epoll_event event;
    int epoll = watching(fd, events), result = epoll_pwait(epoll, &event, 1, ms, &mask);
    close(epoll);
    return result;
}

static int by_recv(int fd, int events, int ms) {
    char byte;
    fcntl(fd, F_SETFL, 0);
    if (ms >= 0 || !(events & POLLIN))
        return events & POLLIN ? recv(fd, &byte, 1, MSG_DONTWAIT) : send(fd, "", 0, 0);
    return recv(fd, &byte, 1, 0) < 0; /* an error is what a wait would have told */
}

#if defined __GLIBC__ && __GLIBC_PREREQ(2, 35)
static int by_epoll_pwait2(int fd, int events, int ms) {
    struct epoll_event event;
    struct timespec time;
    int epoll = watching(fd, events), result = epoll_pwait2(epoll, &event, 1, spec(ms, &time), &mask);
    close(epoll);
    return result;
}
#endif

static const struct way {
    const char *name;
    int (*wait)(int, int, int);
} ways[] = {
    {"poll", by_poll},
    {"ppoll", by_ppoll},
    {"select", by_select},
    {"pselect", by_pselect},
    {"epoll_wait", by_epoll_wait},
    {"epoll_pwait", by_epoll_pwait},
#if defined __GLIBC__ && __GLIBC_PREREQ(2, 35)
    {"epoll_pwait2", by_epoll_pwait2},
#endif
    {"recv", by_recv},
};
enum { WAYS = sizeof ways / sizeof *ways };

static void say_of(const struct way *way, const char *what, long value) {
    printf("%s_%s=%ld\n", way->name, what, value);
    fflush(stdout);
}

static void each(const struct way *way) {
    int error = 0;
    socklen_t size = sizeof error;
    long start = milliseconds();
    inside = 1;
    int fd = connected(), result = way->wait(fd, POLLIN, -1);
    if (way->wait == by_recv)
        error = errno;
    else
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    close(fd);
    inside = 0;
    say_of(way, "took", milliseconds() - start);
    say_of(way, "result", result);
    say_of(way, "error", error);
}

static volatile int fd_of_thread, cleaned;

static void clean(void *arg) {
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    cleaned = 1 + sigismember(&now, SIGUSR1);
    (void)arg;
}

static void *body(void *arg) {
    const struct way *way = arg;
    pthread_cleanup_push(clean, NULL);
    if (!strcmp(mode, "async"))
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    way->wait(fd_of_thread, POLLIN, -1);
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancel(const struct way *way) {
    pthread_t thread;
    void *result;
    char byte;
    fd_of_thread = connected();
    cleaned = 0;
    pthread_create(&thread, NULL, body, (void *)way);
    usleep(300000);
    long start = milliseconds();
    pthread_cancel(thread);
    pthread_join(thread, &result);
    say_of(way, "took", milliseconds() - start);
    say_of(way, "cancelled", result == PTHREAD_CANCELED);
    say_of(way, "cleaned", cleaned);
    say_of(way, "goes_on", recv(fd_of_thread, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
}

static void calls(const struct way *way) {
    int fd = connected();
    way->wait(fd, POLLOUT, -1); /* the loader has its symbols now, and the pages are known */
    way->wait(fd, POLLIN, 1);
    static const char begin[] = "BEGIN\n", end[] = "END\n";
    (void)!write(2, begin, sizeof begin - 1);
    say_of(way, "ready", way->wait(fd, POLLOUT, -1));
    say_of(way, "nothing", way->wait(fd, POLLIN, 0));
    say_of(way, "later", way->wait(fd, POLLIN, 20));
    (void)!write(2, end, sizeof end - 1);
    close(fd);
}

int main(int count, char **args) {
    if (count != 4)
        return 2;
    mode = args[1];
    peer = address(args[2], args[3], &len);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    say("ways", WAYS);
    for (const struct way *way = ways; way < ways + WAYS; way++)
        (!strcmp(mode, "each") ? each : !strcmp(mode, "calls") ? calls : cancel)(way);
    return 0;
}
