/* reused OWNER PORT: a blocking connect to a black hole at PORT of loopback; once it waits its descriptor is closed, and the
 * number is OWNER's: a listener, a connection (made by dup2), an accepted socket, udp, tcp that is not connected, a file, a
 * pipe, or handler: a file that a signal handler opens in the thread that waits. Says whether OWNER is as it was made. */
#include "probe.h"
#include <pthread.h>
#include <signal.h>

static const char *port;
static int fd;
static volatile pid_t waiter;
static volatile int is_over, is_handled;

static void *waits(void *arg) {
    socklen_t len;
    union address hole = address("127.0.0.1", port, &len);
    long start = milliseconds();
    waiter = syscall(SYS_gettid);
    int r = connect(fd, &hole.any, len);
    say("errno", r ? errno : 0);
    say("took", milliseconds() - start);
    is_over = 1;
    return arg;
}

/* Whether the thread waits in poll or ppoll: proc(5) tells the system call that a thread sleeps in. */
static int is_waiting(void) {
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)waiter);
    FILE *stream = fopen(path, "r");
    if (stream == NULL)
        return 0;
    if (fgets(text, sizeof text, stream) == NULL)
        text[0] = 0;
    fclose(stream);
    long number = text[0] >= '0' && text[0] <= '9' ? atol(text) : -1;
#ifdef SYS_poll
    if (number == SYS_poll)
        return 1;
#endif
    return number == SYS_ppoll;
}

/* A thread that is never seen waiting has not been able to run, or main was not: its connect is over then. */
static void until(int (*holds)(void)) {
    for (int i = 0; i < 20000 && !is_over && !holds(); i++)
        usleep(1000);
}

static int handled(void) { return is_handled; }

static int listener(union address *a, socklen_t *len) {
    int s = socket(AF_INET, SOCK_STREAM, 0);
    *a = address("127.0.0.1", "0", len);
    bind(s, &a->any, *len);
    listen(s, 4);
    getsockname(s, &a->any, len);
    return s;
}

static void file(int unused) {
    (void)unused;
    close(fd);
    if (open("/dev/null", O_WRONLY | O_APPEND | O_NONBLOCK) != fd)
        exit(3);
    is_handled = 1;
}

/* Whether a byte goes from one socket to the other. */
static int goes(int from, int to) {
    char byte = 0;
    return send(from, "x", 1, MSG_NOSIGNAL) == 1 && recv(to, &byte, 1, MSG_DONTWAIT) == 1 && byte == 'x';
}

int main(int count, char **args) {
    const char *owner = args[1];
    socklen_t len, none = sizeof(union address);
    union address a, nobody;
    int other = -1, server = -1, made = -1, flags, intact = 0;
    pthread_t thread;
    struct sigaction action = {.sa_handler = file, .sa_flags = SA_RESTART};
    if (count < 3)
        return 2;
    port = args[2];
    sigaction(SIGUSR1, &action, NULL);
    server = listener(&a, &len);
    if (!strcmp(owner, "connection") || !strcmp(owner, "accepted")) {
        other = socket(AF_INET, SOCK_STREAM, 0);
        connect(other, &a.any, len);
    }
    if (!strcmp(owner, "connection"))
        made = accept(server, NULL, NULL);
    fd = socket(AF_INET, SOCK_STREAM, 0);
    pthread_create(&thread, NULL, waits, NULL);
    until(is_waiting);
    if (!strcmp(owner, "connection"))
        dup2(made, fd);
    else if (!strcmp(owner, "handler"))
        pthread_kill(thread, SIGUSR1), until(handled);
    else {
        int pair[2];
        close(fd);
        if (!strcmp(owner, "listener")) made = listener(&a, &len);
        if (!strcmp(owner, "accepted")) made = accept(server, NULL, NULL);
        if (!strcmp(owner, "udp")) made = socket(AF_INET, SOCK_DGRAM, 0);
        if (!strcmp(owner, "tcp")) made = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        if (!strcmp(owner, "file")) made = open("/dev/null", O_WRONLY | O_APPEND | O_NONBLOCK);
        if (!strcmp(owner, "pipe")) made = pipe2(pair, O_NONBLOCK) ? -1 : pair[0];
        if (made != fd)
            return 3;
    }
    flags = fcntl(fd, F_GETFL);
    pthread_join(thread, NULL);
    if (!strcmp(owner, "listener")) {
        other = socket(AF_INET, SOCK_STREAM, 0);
        intact = connect(other, &a.any, len) == 0;
    } else if (!strcmp(owner, "connection") || !strcmp(owner, "accepted"))
        intact = goes(other, fd) && goes(fd, other);
    else if (!strcmp(owner, "udp") || !strcmp(owner, "tcp"))
        intact = getpeername(fd, &nobody.any, &none) == -1 && errno == ENOTCONN;
    else
        intact = 1;
    say("intact", intact);
    say("flags_kept", fcntl(fd, F_GETFL) == flags);
    return 0;
}
