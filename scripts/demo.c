/* What scripts/demo needs beside curl: a black hole, and a legacy server and client that set no socket option. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in loopback(const char *port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    a.sin_port = htons(atoi(port));
    return a;
}

static int port_of(int fd) {
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    getsockname(fd, (struct sockaddr *)&a, &len);
    return ntohs(a.sin_port);
}

static int listening(const char *port, int backlog) {
    struct sockaddr_in a = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, backlog) != 0) {
        printf("bind: %s\n", strerror(errno));
        exit(1);
    }
    return fd;
}

/* Whether a connection is there after a quarter of a second. */
static int connects(int port) {
    char text[6];
    snprintf(text, sizeof text, "%d", port);
    struct sockaddr_in a = loopback(text);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0); /* kept, so that it stays in the queue */
    struct pollfd p = {fd, POLLOUT, 0};
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
        return 1;
    return poll(&p, 1, 250) == 1;
}

/* A listener with backlog 0 drops every SYN once its queue is full. */
static int hole(void) {
    int port = port_of(listening("0", 0));
    for (int i = 0; connects(port); i++)
        if (i == 10)
            return 1;
    printf("%d\n", port);
    fflush(stdout);
    pause();
    return 0;
}

/* Accepts one connection, and closes first: its port is then in TIME_WAIT. */
static int server(const char *port) {
    int fd = listening(port, 1);
    printf("listening on port %d\n", port_of(fd));
    fflush(stdout);
    close(accept(fd, NULL, NULL));
    return 0;
}

/* Connects, and waits for the end of the connection. */
static int client(const char *port) {
    struct sockaddr_in a = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char byte;
    if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0)
        return 1;
    return read(fd, &byte, 1) != 0;
}

int main(int count, char **args) {
    alarm(60);
    if (count == 2 && !strcmp(args[1], "hole"))
        return hole();
    if (count == 3 && !strcmp(args[1], "server"))
        return server(args[2]);
    if (count == 3 && !strcmp(args[1], "client"))
        return client(args[2]);
    return 2;
}
