/* pointers IP HOLE-PORT: pointers to nowhere and across the end of a page, to every hook that takes one;
 * first while nothing goes on, then while a nonblocking connect does. Each line: result and errno. What libc itself
 * reads, such as the timeouts of ppoll and pselect, is left out: the plain program would crash. */
#include "every.h"
#include <sys/mman.h>

static void connects(int fd, int listener, union address *live, char *bad) {
    socklen_t len = sizeof live->v4;
    struct sockaddr *last = memcpy(bad - len, live, len); /* nothing may be read past it */
    SHOW(connect(fd, NULL, len));
    SHOW(connect(fd, NULL, 0));
    SHOW(connect(fd, (void *)bad, len));
    SHOW(connect(fd, (void *)bad, 0));
    SHOW(connect(fd, (void *)-1L, len));
    SHOW(connect(fd, (void *)(bad - 8), len));
    SHOW(connect(fd, (void *)(bad - 8), -1));
    SHOW(connect(fd, last, len));
    SHOW(connect(fd, (void *)bad, len));
    int server = accept(listener, NULL, NULL);
    SHOW(bind(listener, NULL, len));
    SHOW(bind(listener, (void *)bad, len));
    SHOW(bind(listener, (void *)(bad - 8), len));

    /* A connection whose address cannot be told is lost: each needs one of its own. */
    socklen_t *bad_len = (void *)bad, *last_len = (void *)(bad - sizeof len);
    for (int i = 0; i < 6; i++)
        connect(socket(AF_INET, SOCK_STREAM, 0), &live->any, len);
    SHOW(accept(listener, (void *)bad, &len));
    SHOW(accept(listener, &live->any, NULL));
    SHOW(accept(listener, &live->any, bad_len));
    SHOW(accept4(listener, (void *)bad, &len, 0));
    SHOW(accept4(listener, &live->any, bad_len, 0));
    *last_len = sizeof live->v4;
    SHOW(accept(listener, &live->any, last_len));
    SHOW(accept(listener, (void *)bad, bad_len));
    SHOW(getpeername(fd, (void *)bad, &len));
    SHOW(getpeername(fd, &live->any, bad_len));
    SHOW(getpeername(fd, NULL, NULL));
    SHOW(close(server));
}

static void options(int fd, char *bad) {
    static const struct {
        int level, name;
    } all[] = {{SOL_SOCKET, SO_KEEPALIVE}, {IPPROTO_TCP, TCP_KEEPIDLE}, {IPPROTO_TCP, TCP_USER_TIMEOUT}, {SOL_SOCKET, SO_ERROR}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        /* In ms: a slow machine must not come to the end of the user timeout. */
        int level = all[i].level, name = all[i].name, value = 9000;
        socklen_t len = sizeof value;
        SHOW(setsockopt(fd, level, name, NULL, len));
        SHOW(setsockopt(fd, level, name, bad, len));
        SHOW(setsockopt(fd, level, name, bad - 2, len));
        SHOW(setsockopt(fd, level, name, memcpy(bad - 4, &value, len), len));
        SHOW(getsockopt(fd, level, name, NULL, &len));
        SHOW(getsockopt(fd, level, name, bad, &len));
        SHOW(getsockopt(fd, level, name, bad - 2, &len));
        SHOW(getsockopt(fd, level, name, bad - 4, &len));
        SHOW(getsockopt(fd, level, name, &value, NULL));
        SHOW(getsockopt(fd, level, name, &value, (void *)bad));
        SHOW(getsockopt(fd, level, name, NULL, (len = 0, &len)));
        SHOW(getsockopt(fd, level, name, bad - 2, (len = 2, &len)));
        len = sizeof value;
        void *volatile same = &len;
        SHOW(getsockopt(fd, level, name, same, &len)); /* value and length in one place */
    }
}

static void waits(char *bad) {
    struct epoll_event event = {.events = EPOLLOUT};
    struct timespec now = {0, 0};
    struct pollfd *volatile null = NULL; /* volatile, or the compiler complains */
    volatile int below = -1;
    int e = epoll_create1(EPOLL_CLOEXEC), pipes[2];
    if (pipe(pipes) || epoll_ctl(e, EPOLL_CTL_ADD, pipes[1], &event))
        exit(1);
    SHOW(poll(null, 1, 0));
    SHOW(poll((void *)bad, 1, 0));
    SHOW(poll(null, below, 0));
    SHOW(ppoll((void *)bad, 1, &now, NULL));
    SHOW(ppoll(NULL, 0, &now, (void *)bad));
    SHOW(__poll_chk((void *)bad, 1, 0, 8));
    SHOW(__ppoll_chk((void *)bad, 1, &now, NULL, 8));
    struct timeval at_once = {0, 0};
    SHOW(select(70, (void *)bad, NULL, NULL, &at_once));
    SHOW(select(-1, NULL, NULL, NULL, &at_once));
    SHOW(pselect(70, NULL, (void *)bad, NULL, &now, NULL));
    SHOW(pselect(0, NULL, NULL, NULL, &now, (void *)bad));
    SHOW(epoll_wait(e, (void *)bad, 1, 0));
    SHOW(epoll_wait(e, &event, 0, 0));
    SHOW(epoll_wait(e, &event, below, 0));
    SHOW(epoll_wait(pipes[0], &event, 1, 0));
    SHOW(epoll_pwait(e, (void *)bad, 1, 0, NULL));
    SHOW(epoll_pwait(e, &event, 1, 0, (void *)bad));
    SHOW(epoll_pwait2(e, (void *)bad, 1, &now, NULL));
    SHOW(epoll_pwait2(e, &event, 1, (void *)bad, NULL));
}

static void bytes(int fd, int peer, char *bad) {
    struct iovec part = {bad, 1}, good = {"x", 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1}, nowhere = {.msg_iov = (void *)bad, .msg_iovlen = 1};
    struct msghdr unnamed = {.msg_name = bad, .msg_namelen = 16, .msg_iov = &good, .msg_iovlen = 1};
    int file = open("/proc/self/exe", O_RDONLY);
    SHOW(write(fd, bad, 1));
    SHOW(writev(fd, &part, 1));
    SHOW(writev(fd, (void *)bad, 1));
    SHOW(send(fd, bad, 1, 0));
    SHOW(sendto(fd, bad, 1, 0, NULL, 0));
    SHOW(sendto(fd, "x", 1, MSG_NOSIGNAL, (void *)bad, 16));
    SHOW(sendmsg(fd, &message, 0));
    SHOW(sendmsg(fd, &nowhere, 0));
    SHOW(sendmsg(fd, &unnamed, 0));
    SHOW(sendmsg(fd, (void *)bad, 0));
    SHOW(sendfile(fd, file, (void *)bad, 1));
    SHOW(sendfile64(fd, file, (void *)bad, 1));
    SHOW(send(peer, "four", 4, 0));
    SHOW(read(fd, bad, 1));
    SHOW(__read_chk(fd, bad, 1, 1));
    SHOW(readv(fd, &part, 1));
    SHOW(readv(fd, (void *)bad, 1));
    SHOW(recv(fd, bad, 1, MSG_DONTWAIT));
    SHOW(__recv_chk(fd, bad, 1, 1, MSG_DONTWAIT));
    SHOW(recvfrom(fd, bad, 1, MSG_DONTWAIT, NULL, NULL));
    SHOW(__recvfrom_chk(fd, bad, 1, 1, MSG_DONTWAIT, NULL, NULL));
    SHOW(recvmsg(fd, &message, MSG_DONTWAIT));
    SHOW(recvmsg(fd, (void *)bad, MSG_DONTWAIT));
    SHOW(close(file));
}

static void all(char *bad) {
    union address a = {.v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a.v4;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), fd = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, &a.any, len);
    listen(listener, 10);
    getsockname(listener, &a.any, &len);
    connects(fd, listener, &a, bad);
    options(fd, bad);
    waits(bad);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    getsockname(listener, &a.any, &len);
    SHOW(connect(fd, (void *)bad, len));
    SHOW(connect(fd, &a.any, len));
    bytes(fd, accept(listener, NULL, NULL), bad);
}

int main(int count, char **args) {
    (void)count;
    socklen_t len;
    union address hole = address(args[1], args[2], &len);
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *bad = page + 4096;
    mprotect(bad, 4096, PROT_NONE);
    all(bad);
    int fd = SHOW(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    SHOW(connect(fd, &hole.any, len));
    all(bad);
    SHOW(connect(fd, (void *)bad, len));
    options(fd, bad);
    bytes(fd, -1, bad);
    SHOW(close(fd));
    return 0;
}
