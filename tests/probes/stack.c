/* stack MODE IP PORT [SIZE]: how much of its own stack a signal handler uses that makes a call. The stack is painted before; with
   a size it is so large, and behind it lies a page that cannot be touched. MODE: what is called, and how. */
#include "probe.h"
#include <signal.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>

enum { ROOM = 65536, GUARD = 65536 };
static union address peer;
static socklen_t len;
static int fd, other;
static const char *mode;
static struct epoll_event event;

static void nothing(int unused) { (void)unused; }

static int is(const char *name) { return strcmp(mode, name) == 0; }

static void calls(int unused) {
    (void)unused;
    int on = 1;
    char byte = 0;
    socklen_t size = sizeof on;
    struct timespec soon = {0, 1000000};
    struct timeval also = {0, 1000};
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_name = &peer, .msg_namelen = len, .msg_iov = &part, .msg_iovlen = 1};
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    if (is("connect") || is("interruptible") || is("nonblocking"))
        connect(fd, &peer.any, len);
    else if (is("socket"))
        other = socket(peer.any.sa_family, SOCK_STREAM, 0);
    else if (is("bind"))
        bind(fd, &peer.any, len);
    else if (is("listen"))
        listen(fd, 5);
    else if (is("accept"))
        accept(fd, NULL, NULL);
    else if (is("setsockopt"))
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    else if (is("getsockopt"))
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &on, &size);
    else if (is("close"))
        close(fd);
    else if (is("dup"))
        other = dup(fd);
    else if (is("fcntl"))
        fcntl(fd, F_GETFL);
    else if (is("shutdown"))
        shutdown(fd, SHUT_RDWR);
    else if (is("send"))
        send(fd, &byte, 1, MSG_NOSIGNAL);
    else if (is("write"))
        other = write(fd, &byte, 1);
    else if (is("fastopen"))
        sendto(fd, &byte, 1, MSG_FASTOPEN | MSG_NOSIGNAL, &peer.any, len);
    else if (is("fastopen_message"))
        sendmsg(fd, &message, MSG_FASTOPEN | MSG_NOSIGNAL);
    else if (is("fastopen_message_now"))
        sendmsg(fd, &message, MSG_FASTOPEN | MSG_NOSIGNAL | MSG_DONTWAIT);
    else if (is("fastopen_now"))
        sendto(fd, &byte, 1, MSG_FASTOPEN | MSG_NOSIGNAL | MSG_DONTWAIT, &peer.any, len);
    else if (is("recv"))
        recv(fd, &byte, 1, 0);
    else if (is("read"))
        other = read(fd, &byte, 1);
    else if (is("poll"))
        poll(&entry, 1, 1);
    else if (is("ppoll"))
        ppoll(&entry, 1, &soon, NULL);
    else if (is("epoll_wait"))
        epoll_wait(other, &event, 1, 1);
    else if (is("select"))
        select(0, NULL, NULL, NULL, &also);
}

/* A connection with nothing to read, or where the call needs another kind of socket, that. */
static int prepared(void) {
    int kind = SOCK_STREAM | (is("nonblocking") || is("close") || is("poll") || is("shutdown") ? SOCK_NONBLOCK : 0);
    int s = socket(peer.any.sa_family, kind, 0);
    union address own = address("127.0.0.1", "0", &len);
    len = sizeof peer.v4;
    if (is("bind"))
        peer = own;
    if (is("listen") || is("accept"))
        bind(s, &own.any, sizeof own.v4);
    if (is("accept")) {
        int client = socket(peer.any.sa_family, SOCK_STREAM, 0);
        socklen_t size = sizeof own;
        listen(s, 5);
        getsockname(s, &own.any, &size);
        connect(client, &own.any, size);
    }
    if (is("close") || is("poll") || is("shutdown"))
        connect(s, &peer.any, len); /* an attempt that goes on */
    if (is("send") || is("write") || is("recv") || is("read") || is("epoll_wait")) {
        int listener = socket(peer.any.sa_family, SOCK_STREAM, 0);
        socklen_t size = sizeof own;
        bind(listener, &own.any, sizeof own.v4);
        listen(listener, 5);
        getsockname(listener, &own.any, &size);
        connect(s, &own.any, size);
        struct timeval soon = {0, 1000};
        setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
    }
    return s;
}

int main(int count, char **args) {
    if (count < 4)
        return 2;
    mode = args[1];
    peer = address(args[2], args[3], &len);
    size_t size = count > 4 ? strtoul(args[4], NULL, 10) : ROOM;
    size = (size + 15) & ~15UL; /* as the stack is aligned */
    unsigned char *room = mmap(NULL, GUARD + ROOM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *stack = room + GUARD;
    if (room == MAP_FAILED || size > ROOM || mprotect(room, GUARD, PROT_NONE) != 0)
        return 2;
    /* The kernel takes no smaller one; how much of that a signal's frame fills, is the machine's affair. */
    say("least", getauxval(AT_MINSIGSTKSZ) ? (long)getauxval(AT_MINSIGSTKSZ) : MINSIGSTKSZ);
    stack_t own = {.ss_sp = stack, .ss_size = size};
    struct sigaction action = {.sa_handler = calls, .sa_flags = SA_ONSTACK}, interrupts = {.sa_handler = nothing};
    if (sigaltstack(&own, NULL) != 0)
        return 3;
    sigaction(SIGUSR1, &action, NULL);
    if (is("interruptible"))
        sigaction(SIGUSR2, &interrupts, NULL);
    fd = prepared();
    if (is("epoll_wait")) {
        other = epoll_create1(0);
        event.events = EPOLLIN;
        epoll_ctl(other, EPOLL_CTL_ADD, fd, &event);
    }
    memset(stack, 0xa5, ROOM);
    long start = milliseconds();
    raise(SIGUSR1);
    say("took", milliseconds() - start);
    size_t untouched = 0;
    while (untouched < size && stack[untouched] == 0xa5)
        untouched++;
    say("used", size - untouched);
    return 0;
}
