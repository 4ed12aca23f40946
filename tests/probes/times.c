/* times: on a connection, sets SO_RCVTIMEO and SO_SNDTIMEO to 1.5 s with whatever struct timeval it is compiled for, and
 * TCP_KEEPIDLE to 100, and reads them back. */
#include "probe.h"
#include <sys/time.h>

static void both(int fd, int name, const char *shown) {
    struct timeval time = {1, 500000};
    socklen_t len = sizeof time;
    int set = setsockopt(fd, SOL_SOCKET, name, &time, len);
    time.tv_sec = time.tv_usec = -1;
    int got = getsockopt(fd, SOL_SOCKET, name, &time, &len);
    printf("%s_set=%d\n%s_got=%d\n%s_ms=%lld\n", shown, set, shown, got, shown,
           (long long)time.tv_sec * 1000 + (long long)time.tv_usec / 1000);
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    socklen_t len;
    union address peer = address(argv[1], argv[2], &len);
    int fd = socket(AF_INET, SOCK_STREAM, 0), idle = 100;
    if (connect(fd, &peer.any, len) != 0)
        return 1;
    printf("bits=%d\n", (int)sizeof(time_t) * 8);
    both(fd, SO_RCVTIMEO, "receive");
    both(fd, SO_SNDTIMEO, "send");
    len = sizeof idle;
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, len);
    getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, &len);
    say("idle", idle);
    return 0;
}
