/* loop KIND TIMES [inline]: opens and closes so many sockets; with `inline`, sets four keepalive options itself. KIND is
 * tcp, udp, unix, or connect: TCP sockets that connect to a listener, which no library tunes. */
#include "probe.h"

static void connected(int fd, int listener, const union address *to, socklen_t len) {
    const struct linger reset = {1, 0}; /* no port stays in TIME_WAIT */
    if (connect(fd, &to->any, len) != 0)
        exit(1);
    int peer = syscall(SYS_accept4, listener, NULL, NULL, 0);
    syscall(SYS_setsockopt, peer, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    syscall(SYS_close, peer);
}

int main(int count, char **args) {
    int domain = !strcmp(args[1], "unix") ? AF_UNIX : AF_INET;
    int type = !strcmp(args[1], "udp") ? SOCK_DGRAM : SOCK_STREAM;
    int listener = !strcmp(args[1], "connect") ? syscall(SYS_socket, AF_INET, SOCK_STREAM, 0) : -1;
    const int one = 1, idle = 60, interval = 10, probes = 3;
    socklen_t len;
    union address to = address("127.0.0.1", "0", &len);
    if (listener >= 0 && (syscall(SYS_bind, listener, &to, len) != 0 || syscall(SYS_listen, listener, 1) != 0 ||
                          syscall(SYS_getsockname, listener, &to, &len) != 0))
        return 1;
    for (int i = atoi(args[2]); i > 0; i--) {
        int fd = socket(domain, type, 0);
        if (fd < 0)
            return 1;
        if (count > 3) {
            setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
            setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
            setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
            setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
        }
        if (listener >= 0)
            connected(fd, listener, &to, len);
        close(fd);
    }
    return 0;
}
