/* nonblock WAY IP PORT: a nonblocking connect; TCP_USER_TIMEOUT, as the kernel has it and as the program reads it,
 * while the attempt goes on and once the program has noticed, by WAY, that it is over. */
#include "probe.h"
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

static int fd;
static union address peer;
static socklen_t peer_len;

static int with_epoll(int way) {
    struct epoll_event event = {.events = EPOLLOUT | EPOLLONESHOT}, got;
    int e = epoll_create1(EPOLL_CLOEXEC), noticed = 0;
    epoll_ctl(e, EPOLL_CTL_ADD, fd, &event);
    /* The second wait has nothing to report, and lasts longer than the connect timeout. */
    for (int i = 0; i < 2; i++) {
        int ms = i == 0 ? 10000 : 2500;
        struct timespec limit = {ms / 1000, ms % 1000 * 1000000};
        noticed += way == 0 ? epoll_wait(e, &got, 1, ms)
                 : way == 1 ? epoll_pwait(e, &got, 1, ms, NULL)
                            : epoll_pwait2(e, &got, 1, &limit, NULL);
    }
    return noticed == 1;
}

static int with_select(int way) {
    struct timeval limit = {10, 0};
    struct timespec precise = {10, 0};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    return way == 0 ? select(fd + 1, NULL, &set, NULL, &limit) : pselect(fd + 1, NULL, &set, NULL, &precise, NULL);
}

/* Other functions, and names that only glibc has: absent ones are said to have noticed nothing. -1: it is none of them. */
ssize_t __write(int, const void *, size_t) __attribute__((weak));
ssize_t __send(int, const void *, size_t, int) __attribute__((weak));
int __poll(struct pollfd *, nfds_t, int) __attribute__((weak));
int __select(int, fd_set *, fd_set *, fd_set *, struct timeval *) __attribute__((weak));

static int vprint(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int r = vdprintf(fd, format, arguments);
    va_end(arguments);
    return r;
}

static int by_other_names(const char *way) {
    char byte = 'x';
    struct iovec part = {&byte, 1};
    struct mmsghdr messages = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
    int one = 1, ends[2];
    if (!strcmp(way, "sendmmsg")) return sendmmsg(fd, &messages, 1, 0);
    if (!strcmp(way, "recvmmsg")) return recvmmsg(fd, &messages, 1, 0, NULL) == -1 && errno == EAGAIN;
    if (!strcmp(way, "pwritev2")) return pwritev2(fd, &part, 1, -1, 0);
    if (!strcmp(way, "preadv2")) return preadv2(fd, &part, 1, -1, 0) == -1 && errno == EAGAIN;
    if (!strcmp(way, "vdprintf")) return vprint("%c", byte);
    if (!strcmp(way, "dprintf")) return dprintf(fd, "%s %d %.1f %d %d %d %d\n", "a", 1, 2.5, 3, 4, 5, 6) == 16;
    if (!strcmp(way, "fdopen")) return fdopen(fd, "r+") != NULL;
    if (!strcmp(way, "shutdown")) return shutdown(fd, SHUT_WR) == 0;
    if (!strcmp(way, "setsockopt")) return setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one) == 0;
    if (!strcmp(way, "ioctl")) return ioctl(fd, FIONREAD, &one) == 0;
    if (!strcmp(way, "fcntl")) return fcntl(fd, F_SETFL, O_NONBLOCK) == 0;
    if (!strcmp(way, "__write")) return __write ? __write(fd, &byte, 1) : 1;
    if (!strcmp(way, "__send")) return __send ? __send(fd, &byte, 1, 0) : 1;
    if (!strcmp(way, "epoll_ctl")) {
        struct epoll_event event = {.events = EPOLLIN};
        return epoll_ctl(epoll_create1(EPOLL_CLOEXEC), EPOLL_CTL_ADD, fd, &event) == 0;
    }
    if (!strcmp(way, "splice")) {
        if (pipe(ends) != 0 || write(ends[1], &byte, 1) != 1) return 0;
        return splice(ends[0], NULL, fd, NULL, 1, 0);
    }
    if (!strcmp(way, "__poll")) {
        struct pollfd p = {fd, POLLOUT, 0};
        return __poll ? __poll(&p, 1, 10000) : 1;
    }
    if (!strcmp(way, "__select")) {
        struct timeval limit = {10, 0};
        fd_set set;
        FD_ZERO(&set);
        FD_SET(fd, &set);
        return __select ? __select(fd + 1, NULL, &set, NULL, &limit) : 1;
    }
    return -1;
}

static int notice(const char *way) {
    struct pollfd p = {fd, POLLOUT, 0};
    struct timespec precise = {10, 0};
    char byte = 'x';
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (!strcmp(way, "poll")) return poll(&p, 1, 10000);
    if (!strcmp(way, "ppoll")) return ppoll(&p, 1, &precise, NULL);
    if (!strcmp(way, "select")) return with_select(0);
    if (!strcmp(way, "pselect")) return with_select(1);
    if (!strcmp(way, "epoll_wait")) return with_epoll(0);
    if (!strcmp(way, "epoll_pwait")) return with_epoll(1);
    if (!strcmp(way, "epoll_pwait2")) return with_epoll(2);
    /* The others are called without any wait: the peer on loopback has answered long ago. */
    usleep(50000);
    if (!strcmp(way, "getsockopt")) {
        int error;
        socklen_t len = sizeof error;
        return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 ? 1 : -1;
    }
    if (!strcmp(way, "getpeername")) {
        union address a;
        socklen_t len = sizeof a;
        return getpeername(fd, &a.any, &len) == 0 ? 1 : -1;
    }
    if (!strcmp(way, "connect")) return connect(fd, &peer.any, peer_len) == 0 ? 1 : -1;
    if (!strcmp(way, "write")) return write(fd, &byte, 1);
    if (!strcmp(way, "writev")) return writev(fd, &part, 1);
    if (!strcmp(way, "send")) return send(fd, &byte, 1, 0);
    if (!strcmp(way, "sendto")) return sendto(fd, &byte, 1, 0, NULL, 0);
    if (!strcmp(way, "sendmsg")) return sendmsg(fd, &message, 0);
    if (!strcmp(way, "sendfile")) return sendfile(fd, open("/etc/hostname", O_RDONLY), NULL, 1);
    int noticed = by_other_names(way);
    if (noticed >= 0) return noticed;
    /* A reader that finds nothing yet: EAGAIN is the expected answer. */
    ssize_t r = !strcmp(way, "read")       ? read(fd, &byte, 1)
                : !strcmp(way, "readv")    ? readv(fd, &part, 1)
                : !strcmp(way, "recv")     ? recv(fd, &byte, 1, 0)
                : !strcmp(way, "recvfrom") ? recvfrom(fd, &byte, 1, 0, NULL, NULL)
                : !strcmp(way, "recvmsg")  ? recvmsg(fd, &message, 0)
                                           : (exit(2), 0);
    return r == -1 && errno == EAGAIN ? 1 : -1;
}

static int program_reads(void) {
    int value = -1;
    socklen_t len = sizeof value;
    return getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &len) == 0 ? value : -errno;
}

int main(int count, char **args) {
    (void)count;
    const char *own = getenv("OWN_USER_TIMEOUT"); /* a program that sets the option itself while it connects */
    peer = address(args[2], args[3], &peer_len);
    fd = socket(peer.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    errno = 4711;
    long start = milliseconds();
    int r = connect(fd, &peer.any, peer_len);
    say("connect", r == 0 ? 0 : errno);
    say("during", kernel_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT));
    if (own) {
        int value = atoi(own);
        say("own", setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, sizeof value));
    }
    if (getenv("READ_DURING"))
        say("read_during", program_reads());
    say("noticed", notice(args[1]) > 0);
    say("took", milliseconds() - start);
    say("after", kernel_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT));
    say("flags", fcntl(fd, F_GETFL) & O_NONBLOCK ? 1 : 0);
    say("so_error", kernel_option(fd, SOL_SOCKET, SO_ERROR));
    say("read_after", program_reads());
    return 0;
}
