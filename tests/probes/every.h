/* Calls every hook once, on sockets of loopback, and prints a line name=result errno for each. */
#include "probe.h"
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

/* What the headers call in a program that is built with _FORTIFY_SOURCE. */
extern int __poll_chk(struct pollfd *, nfds_t, int, size_t);
extern int __ppoll_chk(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t);
extern ssize_t __read_chk(int, void *, size_t, size_t);
extern ssize_t __recv_chk(int, void *, size_t, size_t, int);
extern ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *);

/* The errno that a successful call must leave as it was. */
enum { UNTOUCHED = 4711 };

__attribute__((unused)) static long show(const char *name, long result) {
    int error = errno;
    printf("%s=%ld %d\n", name, result, error);
    fflush(stdout);
    errno = UNTOUCHED;
    return result;
}

#define SHOW(call) (errno = UNTOUCHED, show(#call, call))

__attribute__((unused)) static void every_hook(void) {
    union address a = {.v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}}, peer;
    socklen_t len = sizeof a.v4;
    int value = 5;
    char byte = 'x';
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct timespec precise = {5, 0};
    struct timeval limit = {5, 0};

    int listener = SHOW(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(bind(listener, &a.any, len));
    SHOW(listen(listener, 8));
    getsockname(listener, &a.any, &len);
    int client = SHOW(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SHOW(connect(client, &a.any, len));
    int server = SHOW(accept(listener, &peer.any, &len));
    SHOW(setsockopt(client, IPPROTO_TCP, TCP_KEEPIDLE, &value, sizeof value));
    SHOW(setsockopt(client, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, sizeof value));
    SHOW(getsockopt(client, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &len));
    SHOW(getpeername(client, &peer.any, &len));

    int other = SHOW(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    SHOW(connect(other, &a.any, sizeof a.v4));
    struct pollfd p = {other, POLLOUT, 0};
    SHOW(poll(&p, 1, 5000));
    SHOW(ppoll(&p, 1, &precise, NULL));
    SHOW(__poll_chk(&p, 1, 5000, sizeof p));
    SHOW(__ppoll_chk(&p, 1, &precise, NULL, sizeof p));
    fd_set set;
    FD_ZERO(&set);
    FD_SET(other, &set);
    SHOW(select(other + 1, NULL, &set, NULL, &limit));
    SHOW(pselect(other + 1, NULL, &set, NULL, &precise, NULL));
    struct epoll_event event = {.events = EPOLLOUT}, got;
    int waits = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(waits, EPOLL_CTL_ADD, other, &event);
    SHOW(epoll_wait(waits, &got, 1, 5000));
    SHOW(epoll_pwait(waits, &got, 1, 5000, NULL));
    SHOW(epoll_pwait2(waits, &got, 1, &precise, NULL));
    SHOW(getsockopt(other, SOL_SOCKET, SO_ERROR, &value, &len));
    int server_too = SHOW(accept4(listener, NULL, NULL, SOCK_NONBLOCK));

    SHOW(write(client, &byte, 1));
    SHOW(writev(client, &part, 1));
    SHOW(send(client, &byte, 1, 0));
    SHOW(sendto(client, &byte, 1, 0, NULL, 0));
    SHOW(sendmsg(client, &message, 0));
    int file = open("/proc/self/exe", O_RDONLY);
    SHOW(sendfile(client, file, NULL, 1));
    SHOW(sendfile64(client, file, NULL, 1));
    SHOW(write(client, "and one", 1));
    SHOW(read(server, &byte, 1));
    SHOW(readv(server, &part, 1));
    SHOW(recv(server, &byte, 1, 0));
    SHOW(recvfrom(server, &byte, 1, 0, &peer.any, &len));
    SHOW(recvmsg(server, &message, 0));
    SHOW(__read_chk(server, &byte, 1, 1));
    SHOW(__recv_chk(server, &byte, 1, 1, 0));
    SHOW(__recvfrom_chk(server, &byte, 1, 1, 0, NULL, NULL));
    SHOW(recv(server_too, &byte, 1, 0)); /* EAGAIN */

    int twin = SHOW(dup(client));
    SHOW(dup2(client, 60));
    SHOW(dup3(client, 61, O_CLOEXEC));
    int all[] = {60, 61, twin, file, waits, server_too, other, server, client, listener};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        SHOW(close(all[i]));
}
