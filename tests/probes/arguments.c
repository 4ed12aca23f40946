/* arguments: every hook on descriptors of every kind, with lengths, families and option names that fit and that do not.
 * Each line: result and errno. */
#include "every.h"
#include <limits.h>
#include <sys/un.h>

static struct sockaddr_in v4 = {.sin_family = AF_INET};
static struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
static struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/socket"};
static struct sockaddr unspecified, strange = {.sa_family = 77};
static struct sockaddr_storage large = {.ss_family = AF_INET};

static const struct {
    const char *name;
    void *addr;
    socklen_t len;
} addresses[] = {
    {"v4", &v4, sizeof v4},
    {"v4 as long as v6", &large, sizeof v6},
    {"v4 with 15 bytes", &v4, sizeof v4 - 1},
    {"v4 with 2 bytes", &v4, 2},
    {"v4 with 1 byte", &v4, 1},
    {"v4 with 0 bytes", &v4, 0},
    {"v4 with 128 bytes", &large, sizeof large},
    {"v4 with 129 bytes", &large, sizeof large + 1},
    {"v4 with INT_MAX bytes", &v4, INT_MAX},
    {"v4 with -1 bytes", &v4, (socklen_t)-1},
    {"v4 with INT_MIN bytes", &v4, (socklen_t)INT_MIN},
    {"v6", &v6, sizeof v6},
    {"v6 with 24 bytes", &v6, 24},
    {"v6 with 23 bytes", &v6, 23},
    {"unix", &path, sizeof path},
    {"family 77", &strange, sizeof strange},
    {"unspecified with 1 byte", &unspecified, 1},
};

static const int lengths[] = {0, 1, 2, 3, 4, 5, 8, 100, INT_MAX, -1, INT_MIN};

static const struct {
    int level, name;
} options[] = {
    {SOL_SOCKET, SO_KEEPALIVE}, {SOL_SOCKET, SO_REUSEADDR},    {IPPROTO_TCP, TCP_KEEPIDLE}, {IPPROTO_TCP, TCP_NODELAY},
    {IPPROTO_TCP, TCP_SYNCNT},  {IPPROTO_TCP, TCP_USER_TIMEOUT}, {IPPROTO_TCP, TCP_INFO},   {IPPROTO_TCP, 9999},
    {IPPROTO_TCP, -1},          {9999, 1},                     {-1, -1},
};

static void addresses_of(const char *kind, int fd, int (*call)(int, const struct sockaddr *, socklen_t), const char *name) {
    char what[200];
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        snprintf(what, sizeof what, "%s: %s %s", kind, name, addresses[i].name);
        errno = UNTOUCHED;
        show(what, call(fd, addresses[i].addr, addresses[i].len));
    }
}

static void options_of(const char *kind, int fd) {
    char what[200], value[128];
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        for (size_t j = 0; j < sizeof lengths / sizeof *lengths; j++) {
            int level = options[i].level, name = options[i].name;
            socklen_t len = lengths[j];
            memset(value, 0, sizeof value);
            value[0] = 7;
            errno = UNTOUCHED;
            int r = setsockopt(fd, level, name, value, len);
            snprintf(what, sizeof what, "%s: setsockopt %d %d with %d bytes", kind, level, name, lengths[j]);
            show(what, r);
            if ((int)len > (int)sizeof value)
                len = sizeof value;
            r = getsockopt(fd, level, name, value, &len);
            snprintf(what, sizeof what, "%s: getsockopt %d %d with %d bytes gives %u", kind, level, name, lengths[j], len);
            show(what, r);
        }
}

static void others_of(const char *kind, int fd) {
    char byte = 'x';
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    union address a;
    socklen_t len = sizeof a;
    volatile int below = -1, above = 5000; /* IOV_MAX is 1024; volatile, or the compiler complains */
    printf("%s\n", kind);
    SHOW(accept(fd, NULL, NULL));
    SHOW(accept(fd, &a.any, (len = 0, &len)));
    SHOW(accept(fd, &a.any, (len = -1, &len)));
    SHOW(accept4(fd, NULL, NULL, 0));
    SHOW(accept4(fd, NULL, NULL, -1));
    SHOW(getpeername(fd, &a.any, (len = sizeof a, &len)));
    SHOW(getpeername(fd, &a.any, (len = -1, &len)));
    SHOW(send(fd, &byte, 1, MSG_NOSIGNAL));
    SHOW(send(fd, &byte, 1, MSG_OOB | MSG_NOSIGNAL));
    SHOW(sendto(fd, &byte, 1, MSG_NOSIGNAL, (struct sockaddr *)&strange, sizeof strange));
    SHOW(sendto(fd, &byte, 1, MSG_NOSIGNAL, (struct sockaddr *)&v4, -1));
    SHOW(sendmsg(fd, &message, MSG_NOSIGNAL));
    SHOW(recv(fd, &byte, 1, MSG_DONTWAIT));
    SHOW(recv(fd, &byte, 1, MSG_DONTWAIT | MSG_ERRQUEUE));
    SHOW(recvfrom(fd, &byte, 1, MSG_DONTWAIT, &a.any, (len = -1, &len)));
    SHOW(recvmsg(fd, &message, MSG_DONTWAIT));
    SHOW(writev(fd, &part, below));
    SHOW(readv(fd, &part, above));
    SHOW(sendfile(fd, -1, NULL, 1));
    SHOW(dup2(fd, -1));
    SHOW(dup3(fd, fd, 0));
    SHOW(dup3(fd, 70, 12345));
}

int main(void) {
    int pipes[2], pair[2];
    socklen_t len = sizeof v4;
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    v6.sin6_addr = in6addr_loopback;
    int refusing = socket(AF_INET, SOCK_STREAM, 0); /* bound, and does not listen: its port refuses */
    bind(refusing, (struct sockaddr *)&v4, sizeof v4);
    getsockname(refusing, (struct sockaddr *)&v4, &len);
    memcpy(&large, &v4, sizeof v4);
    v6.sin6_port = v4.sin_port;
    dup2(refusing, 500);
    close(500);
    if (pipe(pipes) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        return 1;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    listen(listener, 1);
    const struct {
        const char *name;
        int fd;
    } kinds[] = {
        {"-1", -1},
        {"INT_MIN", INT_MIN},
        {"INT_MAX", INT_MAX},
        {"70000", 70000},
        {"closed", 500},
        {"file", open("/dev/null", O_RDWR)},
        {"directory", open("/", O_RDONLY)},
        {"O_PATH", open("/", O_PATH)},
        {"pipe", pipes[0]},
        {"unix pair", pair[0]},
        {"unix", socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0)},
        {"netlink", socket(AF_NETLINK, SOCK_RAW, 0)},
        {"udp", socket(AF_INET, SOCK_DGRAM, 0)},
        {"listener", listener},
        {"blocking", socket(AF_INET, SOCK_STREAM, 0)},
        {"nonblocking", socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)},
        {"v6", socket(AF_INET6, SOCK_STREAM, 0)},
        {"mptcp", socket(AF_INET, SOCK_STREAM, 262)},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        addresses_of(kinds[i].name, kinds[i].fd, connect, "connect to");
        options_of(kinds[i].name, kinds[i].fd);
        others_of(kinds[i].name, kinds[i].fd);
    }
    /* Port 0, so that each has one of its own: REUSEADDR and REUSEPORT are settings. */
    v4.sin_port = v6.sin6_port = 0;
    memcpy(&large, &v4, sizeof v4);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        addresses_of(kinds[i].name, kinds[i].fd, bind, "bind to");
        errno = UNTOUCHED;
        show(kinds[i].name, listen(kinds[i].fd, -1));
    }
    return 0;
}
