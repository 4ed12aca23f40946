/* processes MODE LIVE [HOLE]: fork, vfork and exec; ports of loopback.
 * forks: 8 threads connect while 300 children are forked that do the same; vfork: as programs that start others do it;
 * spawn: posix_spawn of this program; daemon: closes 0 to 2, and its sockets take their numbers;
 * socket, full, gone, terminal: the descriptor 2 of an executed child is a socket, a full pipe, a pipe without a reader, a
 * terminal with room for a few lines;
 * hooks: what those children do. */
#include "probe.h"
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>

static char **args;
static atomic_int done, wrong;

static int connected(int fd, const char *port) {
    socklen_t len;
    union address a = address("127.0.0.1", port, &len);
    return connect(fd, &a.any, len) ? errno : 0;
}

/* Calls into the library; how many were answered wrongly. */
static int hooks(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), other = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    int bad = connected(fd, args[2]) != 0;
    bad += setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &one, sizeof one) != 0;
    bad += connected(other, "1") != ECONNREFUSED;
    bad += send(fd, "x", 1, 0) != 1;
    if (args[3]) {
        int blocking = socket(AF_INET, SOCK_STREAM, 0), before = fcntl(blocking, F_GETFL);
        bad += connected(blocking, args[3]) != ETIMEDOUT || fcntl(blocking, F_GETFL) != before;
        bad += close(blocking) != 0;
    }
    return bad + (close(fd) != 0) + (close(other) != 0);
}

/* Whether the child ended well, within 10 s. */
static int well(pid_t child) {
    int status = -1;
    for (int i = 0; i < 1000 && waitpid(child, &status, WNOHANG) == 0; i++)
        usleep(10000);
    if (status == -1)
        kill(child, SIGKILL);
    return status == 0;
}

static void *busy(void *arg) {
    while (!done)
        wrong += hooks();
    return arg;
}

static void forks(void) {
    pthread_t threads[8];
    int bad = 0;
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, busy, NULL);
    for (int round = 0; round < 10; round++) {
        pid_t children[30];
        for (int i = 0; i < 30; i++)
            if ((children[i] = fork()) == 0)
                _exit(hooks());
        for (int i = 0; i < 30; i++)
            bad += !well(children[i]);
    }
    done = 1;
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    say("bad_children", bad);
    say("wrong", wrong);
}

/* The child has descriptors of its own, but its parent's memory: what it does to its descriptors is not the parent's
 * affair. Here it closes one, and puts standard error in the place of another. */
static void share_memory(void) {
    int closed = socket(AF_INET, SOCK_STREAM, 0), replaced = socket(AF_INET, SOCK_STREAM, 0), seven = 7;
    setsockopt(closed, IPPROTO_TCP, TCP_KEEPIDLE, &seven, sizeof seven);
    setsockopt(replaced, IPPROTO_TCP, TCP_KEEPIDLE, &seven, sizeof seven);
    pid_t child = vfork();
    if (child == 0) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connected(fd, args[2]) != 0 || close(fd))
            _exit(1);
        close(closed);
        dup2(2, replaced);
        execl(args[0], args[0], "hooks", args[2], args[3], NULL);
        _exit(2);
    }
    say("child", well(child));
    say("closed", connected(closed, args[2]));
    say("closed_keepidle", kernel_option(closed, IPPROTO_TCP, TCP_KEEPIDLE));
    say("replaced", connected(replaced, args[2]));
    say("replaced_keepidle", kernel_option(replaced, IPPROTO_TCP, TCP_KEEPIDLE));
}

static void spawn(void) {
    extern char **environ;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addclose(&actions, 0);
    posix_spawn_file_actions_adddup2(&actions, 2, 0);
    char *to[] = {args[0], "hooks", args[2], args[3], NULL};
    pid_t child = -1;
    say("spawned", posix_spawn(&child, args[0], &actions, NULL, to, environ) == 0);
    say("child", well(child));
}

/* As daemon(3) of old: the first sockets become standard input, output and error. What the peer reads is what was sent. */
static void daemonise(void) {
    int out = fcntl(1, F_DUPFD, 10), total = 0;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    char text[256];
    for (int fd = 0; fd <= 2; fd++)
        close(fd);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, (struct sockaddr *)&a, sizeof a);
    listen(listener, 5);
    getsockname(listener, (struct sockaddr *)&a, &len);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    connect(client, (struct sockaddr *)&a, sizeof a);
    int accepted = accept(listener, NULL, NULL);
    int bad = hooks(), n;
    send(accepted, "x", 1, 0);
    shutdown(accepted, SHUT_WR);
    while ((n = read(client, text, sizeof text)) > 0)
        total += n;
    dprintf(out, "numbers=%d%d%d\nbad=%d\nread=%d\n", listener, client, accepted, bad, total);
}

static void standard_error(void) {
    int ends[2], read_bytes = 0, n;
    char text[512] = "";
    if (!strcmp(args[1], "socket")) {
        socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    } else {
        if (!strcmp(args[1], "terminal"))
            openpty(&ends[0], &ends[1], NULL, NULL, NULL);
        else
            pipe2(ends, O_CLOEXEC);
        fcntl(ends[1], F_SETFL, O_NONBLOCK);
        while (!strcmp(args[1], "full") && write(ends[1], text, sizeof text) > 0) {
        }
        fcntl(ends[1], F_SETFL, 0);
        if (!strcmp(args[1], "gone"))
            close(ends[0]);
    }
    /* Of a terminal, a different rest of the room each time: a line that just fits holds nothing up. */
    int good = 1;
    for (int turn = 0; turn < (strcmp(args[1], "terminal") ? 1 : 8); turn++) {
        if (!strcmp(args[1], "terminal")) {
            fcntl(ends[1], F_SETFL, O_NONBLOCK);
            while (write(ends[1], "a line\n", 7) == 7) {
            }
            fcntl(ends[1], F_SETFL, 0);
            (void)!read(ends[0], text, sizeof text - 30 * turn);
        }
        pid_t child = fork();
        if (child == 0) {
            dup2(ends[1], 2);
            execl(args[0], args[0], "hooks", args[2], args[3], NULL);
            _exit(2);
        }
        good = good && well(child);
    }
    say("child", good);
    close(ends[1]);
    if (!strcmp(args[1], "socket")) {
        while ((n = read(ends[0], text, sizeof text)) > 0)
            read_bytes += n;
        say("read", read_bytes);
    }
}

int main(int count, char **arguments) {
    (void)count;
    args = arguments;
    if (!strcmp(args[1], "hooks"))
        return hooks();
    if (!strcmp(args[1], "forks"))
        forks();
    else if (!strcmp(args[1], "vfork"))
        share_memory();
    else if (!strcmp(args[1], "spawn"))
        spawn();
    else if (!strcmp(args[1], "daemon"))
        daemonise();
    else
        standard_error();
    return 0;
}
