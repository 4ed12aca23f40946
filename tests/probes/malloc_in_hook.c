/* malloc_in_hook IP PORT LIVE-PORT: every kind of hooked call with a malloc that aborts meanwhile. */
#include "probe.h"

static volatile int inside;

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

static void check(void) {
    if (inside) {
        static const char text[] = "allocated inside a hook\n";
        syscall(SYS_write, 1, text, sizeof text - 1);
        abort();
    }
}

void *malloc(size_t n) { check(); return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { check(); return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { check(); return __libc_realloc(p, n); }
void free(void *p) { check(); __libc_free(p); }

int main(int count, char **args) {
    (void)count;
    socklen_t len, live_len;
    union address hole = address(args[1], args[2], &len), live = address(args[1], args[3], &live_len), any;
    int one = 1, r = 0;
    any = address(args[1], "0", &len);
    void *works = malloc(10); /* the probe's own malloc is the one in use */
    inside = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    r |= setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &one, sizeof one);
    r |= setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &one, sizeof one);
    int timed_out = connect(fd, &hole.any, len) == -1 && errno == ETIMEDOUT;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    r |= bind(listener, &any.any, len);
    r |= listen(listener, 1);
    int nonblocking = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int in_progress = connect(nonblocking, &live.any, live_len) == -1 && errno == EINPROGRESS;
    struct pollfd p = {nonblocking, POLLOUT, 0};
    int ready = poll(&p, 1, 5000) == 1;
    r |= write(nonblocking, "x", 1) != 1;
    r |= close(dup(nonblocking));
    r |= connect(socket(AF_INET, SOCK_DGRAM, 0), &live.any, live_len);
    errno = 0;
    int bad = connect(-1, NULL, 0) == -1 && errno == EBADF;
    inside = 0;
    free(works);
    say("calls", r);
    say("timed_out", timed_out);
    say("in_progress", in_progress);
    say("ready", ready);
    say("bad", bad);
    return 0;
}
