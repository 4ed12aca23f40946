/* What the probes share. Each prints lines name=value. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* An address from its text and a port; the length goes to *len. */
__attribute__((unused)) static union address address(const char *ip, const char *port, socklen_t *len) {
    union address a;
    memset(&a, 0, sizeof a);
    if (strchr(ip, ':')) {
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = htons(atoi(port));
        *len = sizeof a.v6;
        if (inet_pton(AF_INET6, ip, &a.v6.sin6_addr) != 1)
            exit(2);
    } else {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = htons(atoi(port));
        *len = sizeof a.v4;
        if (inet_pton(AF_INET, ip, &a.v4.sin_addr) != 1)
            exit(2);
    }
    return a;
}

/* An option as the kernel has it: no library that interposes getsockopt is asked. */
__attribute__((unused)) static int kernel_option(int fd, int level, int name) {
    int value = 0;
    socklen_t len = sizeof value;
    if (syscall(SYS_getsockopt, fd, level, name, &value, &len) != 0)
        return -errno;
    return value;
}

__attribute__((unused)) static long milliseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000L + t.tv_nsec / 1000000;
}

__attribute__((unused)) static void say(const char *name, long value) {
    printf("%s=%ld\n", name, value);
    fflush(stdout);
}
