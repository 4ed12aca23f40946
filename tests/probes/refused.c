/* refused CALL IP LIVE-PORT [HOLE-PORT]: from some point on the kernel refuses a system call (seccomp(2)), with EPERM:
 * setsockopt, getsockopt, poll, ppoll (and poll), fcntl, or ioctl of FIONBIO; "both" is setsockopt and ppoll; "new" is
 * socket, accept and accept4 with ENFILE. */
#include "every.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#ifndef SYS_poll
#define SYS_poll SYS_ppoll /* architectures without poll(2) */
#endif
#ifndef SYS_accept
#define SYS_accept SYS_accept4
#endif

/* Refuses up to three calls; if `argument` is not -1, only with that second argument. */
static int refuse(const long *calls, int argument, int error) {
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[0], 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[1], 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[2], 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])), /* the lower half: little-endian */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, argument, 1, argument == -1 ? 1 : 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
    };
    struct sock_fprog filter = {sizeof program / sizeof *program, program};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) ? errno : 0;
}

static int wait_for(int fd) {
    struct epoll_event event = {.events = EPOLLOUT}, got;
    int e = epoll_create1(EPOLL_CLOEXEC);
    int r = epoll_ctl(e, EPOLL_CTL_ADD, fd, &event);
    if (r == 0)
        r = epoll_wait(e, &got, 1, 3000);
    syscall(SYS_close, e);
    return r;
}

static void connections(int flags, const union address *live, socklen_t len) {
    int value = 77;
    for (int i = 0; i < 3; i++) {
        int fd = SHOW(socket(AF_INET, SOCK_STREAM | flags, 0));
        SHOW(setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &value, sizeof value));
        SHOW(connect(fd, &live->any, len));
        SHOW(wait_for(fd));
        SHOW(write(fd, "x", 1));
        SHOW(connect(fd, &live->any, len));
        SHOW(close(fd));
    }
}

int main(int count, char **args) {
    socklen_t len;
    union address live = address(args[2], args[3], &len), any = address(args[2], "0", &len);
    const char *call = args[1];
    /* The filter has room for three; what is not refused is filled with a call that nobody makes. */
    long calls[3] = {SYS_reboot, SYS_reboot, SYS_reboot};
    int hole_fd = socket(AF_INET, SOCK_STREAM, 0), listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (!strcmp(call, "setsockopt")) calls[0] = SYS_setsockopt;
    if (!strcmp(call, "getsockopt")) calls[0] = SYS_getsockopt;
    if (!strcmp(call, "poll")) calls[0] = SYS_poll;
    if (!strcmp(call, "ppoll")) calls[0] = SYS_ppoll, calls[1] = SYS_poll;
    if (!strcmp(call, "both")) calls[0] = SYS_setsockopt, calls[1] = SYS_ppoll;
    if (!strcmp(call, "fcntl")) calls[0] = SYS_fcntl;
    if (!strcmp(call, "FIONBIO")) calls[0] = SYS_ioctl;
    if (!strcmp(call, "new")) calls[0] = SYS_socket, calls[1] = SYS_accept, calls[2] = SYS_accept4;
    int error = refuse(calls, strcmp(call, "FIONBIO") ? -1 : FIONBIO, strcmp(call, "new") ? EPERM : ENFILE);
    if (error) {
        say("no_filter", error);
        return 0;
    }
    SHOW(fcntl(hole_fd, F_GETFL));
    SHOW(fcntl(hole_fd, F_SETFL, O_RDWR));
    connections(0, &live, len);
    connections(SOCK_NONBLOCK, &live, len);
    SHOW(bind(listener, &any.any, len));
    SHOW(listen(listener, 5));
    getsockname(listener, &any.any, &len);
    SHOW(connect(listener, &live.any, len));
    SHOW(accept(listener, NULL, NULL));
    SHOW(connect(socket(AF_INET, SOCK_STREAM, 0), &any.any, len));
    SHOW(accept4(listener, NULL, NULL, 0));
    if (count > 4) {
        any = address(args[2], args[4], &len);
        long start = milliseconds();
        int r = connect(hole_fd, &any.any, len), why = errno;
        say("took", milliseconds() - start);
        say("hole", r == 0 ? 0 : why);
    }
    return 0;
}
