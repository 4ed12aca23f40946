/* loop KIND TIMES [inline]: opens and closes so many sockets; with `inline`, sets four keepalive options itself. */
#include "probe.h"

int main(int count, char **args) {
    int domain = !strcmp(args[1], "unix") ? AF_UNIX : AF_INET;
    int type = !strcmp(args[1], "udp") ? SOCK_DGRAM : SOCK_STREAM;
    const int one = 1, idle = 60, interval = 10, probes = 3;
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
        close(fd);
    }
    return 0;
}
