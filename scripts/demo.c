/* What scripts/demo needs beside curl: a black hole, and a legacy server and client that set no socket option.
 * All of it stays on 127.0.0.1, on ports of the kernel's choice. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int fail(const char *what) {
    printf("%s: %s\n", what, strerror(errno));
    return 1;
}

static struct sockaddr_in loopback(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    a.sin_port = htons(port);
    return a;
}

static int port_of(int fd) {
    struct sockaddr_in a = {0};
    socklen_t len = sizeof a;
    getsockname(fd, (struct sockaddr *)&a, &len);
    return ntohs(a.sin_port);
}

/* A listening socket; without SO_REUSEADDR, as in many an old program. */
static int listener(int port, int backlog) {
    struct sockaddr_in a = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, backlog) != 0)
        exit(fail("bind"));
    return fd;
}

/* Tells the script, which reads a file, at once. */
static void say(const char *what, int port) {
    printf("%s port %d\n", what, port);
    fflush(stdout);
}

/* Whether a connection is there after 250 ms, far more than loopback needs. It stays open, to fill the queue. */
static int connects(int port) {
    struct sockaddr_in a = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
        return 1;
    struct pollfd p = {fd, POLLOUT, 0};
    return poll(&p, 1, 250) != 0;
}

/* Linux drops each SYN for a listener whose accept queue is full (listen(2), backlog; one more than that fits in). */
static int hole(void) {
    int port = port_of(listener(0, 0));
    for (int i = 0; connects(port); i++) {
        if (i == 10) {
            printf("this kernel makes no black hole: port %d still connects\n", port);
            return 1;
        }
    }
    say("black hole on", port);
    pause();
    return 0;
}

/* Serves one client: reads its byte, and closes first. So it is the server's port that is then in TIME_WAIT. */
static int server(int port) {
    char byte;
    int fd = listener(port, 1);
    say("listening on", port_of(fd));
    int connection = accept(fd, NULL, NULL);
    return connection < 0 || read(connection, &byte, 1) != 1;
}

/* Connects, idles, asks with one byte, and waits until the server closes. */
static int client(int port, int idle) {
    struct sockaddr_in a = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char byte = '?';
    if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0)
        return fail("connect");
    say("connected to", port);
    sleep(idle);
    return write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 0;
}

int main(int count, char **args) {
    const char *what = count > 1 ? args[1] : "";
    if (count == 2 && !strcmp(what, "hole"))
        return hole();
    if (count == 3 && !strcmp(what, "server"))
        return server(atoi(args[2]));
    if (count == 4 && !strcmp(what, "client"))
        return client(atoi(args[2]), atoi(args[3]));
    if (count > 3 && !strcmp(what, "limit")) {
        /* The alarm outlives execve (alarm(2)): it ends whatever program runs for too long, under the same pid. */
        alarm(atoi(args[2]));
        execvp(args[3], args + 3);
        return fail(args[3]);
    }
    fputs("usage: legacy hole | server PORT | client PORT IDLE_SECONDS | limit SECONDS COMMAND...\n", stderr);
    return 2;
}
