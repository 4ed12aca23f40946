/* same_socket MODE PORT: one socket, of which several threads, descriptors or processes know; PORT of loopback.
 * two: two threads connect to a black hole, the second 200 ms after the first;
 * late: the same, and the peer answers the SYN that is sent after one second;
 * shutdown: another thread shuts the socket down, 200 ms after the connect to a black hole began;
 * flags: another thread sets O_APPEND and O_ASYNC meanwhile, and a child O_NONBLOCK;
 * shared: dup and fork of the socket meanwhile; afterwards each connects without blocking. */
#include "probe.h"
#include <pthread.h>
#include <sys/wait.h>

static const char *target;

static int connect_to(int fd, const char *port) {
    socklen_t len;
    union address a = address("127.0.0.1", port, &len);
    return connect(fd, &a.any, len) ? errno : 0;
}

static int fd;

static void *one(void *name) {
    char text[40];
    long start = milliseconds();
    int error = connect_to(fd, target);
    sprintf(text, "%s_took", (char *)name);
    say(text, milliseconds() - start);
    sprintf(text, "%s_errno", (char *)name);
    say(text, error);
    return NULL;
}

/* A black hole of its own, in which there is room from a second later on. */
static int listener_with_a_full_queue(char *port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int listener = socket(AF_INET, SOCK_STREAM, 0), taken = 1;
    bind(listener, (struct sockaddr *)&a, sizeof a);
    listen(listener, 0);
    getsockname(listener, (struct sockaddr *)&a, &len);
    sprintf(port, "%d", ntohs(a.sin_port));
    while (taken) {
        int filler = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect_to(filler, port);
        struct pollfd p = {filler, POLLOUT, 0};
        taken = poll(&p, 1, 100);
        if (!taken)
            close(filler); /* its SYN would take the room */
    }
    return listener;
}

static void two(int late) {
    char port[8];
    int before = fcntl(fd, F_GETFL), listener = -1;
    if (late) {
        listener = listener_with_a_full_queue(port);
        target = port;
    }
    pthread_t first, second;
    pthread_create(&first, NULL, one, "first");
    usleep(200000);
    pthread_create(&second, NULL, one, "second");
    if (late) {
        usleep(200000);
        close(accept(listener, NULL, NULL));
    }
    pthread_join(first, NULL);
    pthread_join(second, NULL);
    say("flags_kept", fcntl(fd, F_GETFL) == before);
}

static void shut_down(void) {
    int before = fcntl(fd, F_GETFL);
    pthread_t thread;
    pthread_create(&thread, NULL, one, "first");
    usleep(200000);
    shutdown(fd, SHUT_RDWR);
    pthread_join(thread, NULL);
    say("flags_kept", fcntl(fd, F_GETFL) == before);
}

static void flags(void) {
    int before = fcntl(fd, F_GETFL);
    pthread_t thread;
    pthread_create(&thread, NULL, one, "first");
    usleep(200000);
    pid_t child = fork();
    if (child == 0)
        _exit(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK));
    waitpid(child, NULL, 0);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_APPEND | O_ASYNC);
    pthread_join(thread, NULL);
    say("flags_kept", fcntl(fd, F_GETFL) == (before | O_NONBLOCK | O_APPEND | O_ASYNC));
}

/* A descriptor of the socket whose connect is over: are the flags as before it, and is it as any other? */
static void other_side(const char *name, int other, int before) {
    char text[40];
    sprintf(text, "%s_flags_kept", name);
    say(text, fcntl(other, F_GETFL) == before);
    fcntl(other, F_SETFL, before | O_NONBLOCK);
    sprintf(text, "%s_errno", name);
    say(text, connect_to(other, target));
    sprintf(text, "%s_stays_nonblocking", name);
    say(text, fcntl(other, F_GETFL) == (before | O_NONBLOCK));
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    connect(other, &none, sizeof none);
    fcntl(other, F_SETFL, before);
}

static void shared(void) {
    int before = fcntl(fd, F_GETFL), over[2];
    pthread_t thread;
    pthread_create(&thread, NULL, one, "first");
    usleep(200000);
    int copy = dup(fd), failed = pipe(over);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        close(over[1]);
        failed = read(over[0], &byte, 1);
        other_side("child", fd, before);
        _exit(failed);
    }
    pthread_join(thread, NULL);
    close(over[1]);
    waitpid(child, &failed, 0);
    say("child_status", failed);
    other_side("copy", copy, before);
}

int main(int count, char **args) {
    (void)count;
    target = args[2];
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (!strcmp(args[1], "shutdown"))
        shut_down();
    else if (!strcmp(args[1], "flags"))
        flags();
    else if (!strcmp(args[1], "shared"))
        shared();
    else
        two(!strcmp(args[1], "late"));
    return 0;
}
