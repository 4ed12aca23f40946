// A static program: no library can be preloaded into it. Connects to itself, and prints what its own getsockopt says.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    getsockopt(fd, level, name, &value, &len);
    return value;
}

int main(void)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0), on = 1, idle = 123;
    if (bind(listener, (void *)&addr, sizeof addr) || listen(listener, 1) || getsockname(listener, (void *)&addr, &len))
        return 1;
    if (connect(fd, (void *)&addr, len) || setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on)
        || setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle))
        return 1;
    do {
        printf("{\"fd\": %d, \"keepidle\": %d, \"keepintvl\": %d, \"keepcnt\": %d, \"user_timeout\": %d, \"syncnt\": %d, "
               "\"sndbuf\": %d, \"rcvbuf\": %d, \"nodelay\": %d}\n",
            fd, option(fd, IPPROTO_TCP, TCP_KEEPIDLE), option(fd, IPPROTO_TCP, TCP_KEEPINTVL),
            option(fd, IPPROTO_TCP, TCP_KEEPCNT), option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT),
            option(fd, IPPROTO_TCP, TCP_SYNCNT), option(fd, SOL_SOCKET, SO_SNDBUF), option(fd, SOL_SOCKET, SO_RCVBUF),
            option(fd, IPPROTO_TCP, TCP_NODELAY));
        fflush(stdout);
    } while (getchar() != EOF);
    return 0;
}
