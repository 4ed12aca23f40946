// Connects to IP PORT, and prints how it went and what its own getsockopt says. More words:
//   mptcp         a Multipath TCP socket
//   uring         connects by io_uring, past the system call connect
//   nonblocking   does not block, and polls
//   idle=N        its own TCP_KEEPIDLE, before connect; late_idle=N: afterwards
//   timeout=N     its own TCP_USER_TIMEOUT, before connect; during=N: while connecting
//   again         connects once more with the same socket
//   wait          waits for input, then sends and receives a byte
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int words;
static char **word;

static int has(const char *name)
{
    for (int i = 3; i < words; i++)
        if (!strcmp(word[i], name))
            return 1;
    return 0;
}

static int number(const char *name)
{
    for (int i = 3; i < words; i++)
        if (!strncmp(word[i], name, strlen(name)) && word[i][strlen(name)] == '=')
            return atoi(word[i] + strlen(name) + 1);
    return -1;
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    getsockopt(fd, level, name, &value, &len);
    return value;
}

static void set(int fd, int name, const char *from)
{
    int value = number(from);
    if (value >= 0 && setsockopt(fd, IPPROTO_TCP, name, &value, sizeof value))
        perror(from);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

// The errno.
static int by_uring(int fd, struct sockaddr *to, socklen_t len)
{
    struct io_uring_params params = {0};
    int ring = syscall(SYS_io_uring_setup, 1, &params);
    if (ring < 0)
        return -1;
    size_t size = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    size_t completions = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    if (completions > size)
        size = completions;
    char *rings = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *entry = mmap(0, sizeof *entry, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
    if (rings == MAP_FAILED || (void *)entry == MAP_FAILED)
        return -1;
    memset(entry, 0, sizeof *entry);
    entry->opcode = IORING_OP_CONNECT;
    entry->fd = fd;
    entry->addr = (unsigned long)to;
    entry->off = len;
    ((unsigned *)(rings + params.sq_off.array))[0] = 0;
    __atomic_store_n((unsigned *)(rings + params.sq_off.tail), 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) < 0)
        return -1;
    return -((struct io_uring_cqe *)(rings + params.cq_off.cqes))->res;
}

static int attempt(int fd, struct sockaddr *to, socklen_t len)
{
    if (has("uring"))
        return by_uring(fd, to, len);
    if (!has("nonblocking") && number("during") < 0)
        return connect(fd, to, len) ? errno : 0;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (!connect(fd, to, len))
        return 0;
    if (errno != EINPROGRESS)
        return errno;
    set(fd, TCP_USER_TIMEOUT, "during");
    struct pollfd poll_for = {.fd = fd, .events = POLLOUT};
    poll(&poll_for, 1, 20000);
    return option(fd, SOL_SOCKET, SO_ERROR);
}

int main(int argc, char **argv)
{
    words = argc;
    word = argv;
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } to = {0};
    int v6 = strchr(argv[1], ':') != 0;
    socklen_t len = v6 ? sizeof to.v6 : sizeof to.v4;
    to.any.sa_family = v6 ? AF_INET6 : AF_INET;
    if (v6)
        to.v6.sin6_port = htons(atoi(argv[2]));
    else
        to.v4.sin_port = htons(atoi(argv[2]));
    inet_pton(to.any.sa_family, argv[1], v6 ? (void *)&to.v6.sin6_addr : (void *)&to.v4.sin_addr);
    int fd = socket(to.any.sa_family, SOCK_STREAM, has("mptcp") ? 262 : 0);
    set(fd, TCP_KEEPIDLE, "idle");
    set(fd, TCP_USER_TIMEOUT, "timeout");
    double begun = now();
    int error = attempt(fd, &to.any, len);
    double took = now() - begun;
    if (has("again")) {
        begun = now();
        error = attempt(fd, &to.any, len);
        took = now() - begun;
    }
    set(fd, TCP_KEEPIDLE, "late_idle");
    printf("{\"errno\": %d, \"ms\": %.0f, \"keepalive\": %d, \"keepidle\": %d, \"keepcnt\": %d, \"user_timeout\": %d, "
           "\"nodelay\": %d}\n",
        error, took, option(fd, SOL_SOCKET, SO_KEEPALIVE), option(fd, IPPROTO_TCP, TCP_KEEPIDLE),
        option(fd, IPPROTO_TCP, TCP_KEEPCNT), option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT),
        option(fd, IPPROTO_TCP, TCP_NODELAY));
    fflush(stdout);
    if (has("wait")) {
        char byte = 'x';
        if (read(0, &byte, 1) != 1)
            return 1;
        byte = 'y';
        fcntl(fd, F_SETFL, 0);
        int sent = write(fd, &byte, 1), got = read(fd, &byte, 1);
        printf("{\"sent\": %d, \"got\": %d, \"byte\": \"%c\"}\n", sent, got, byte);
    }
    return 0;
}
