/* stale HOW: a TCP socket is closed behind the library's back, and the next one on the number is no TCP. Says what it has that
 * nobody asked for, and what its calls answer. HOW:
 *   syscall, fclose, close_range
 *   vfork        a child that shares nothing but memory makes another one on the number
 *   unshare      a thread with descriptors of its own does so
 *   clone        a child that shares nothing but descriptors closes it */
#include "probe.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/un.h>
#include <sys/wait.h>

static const char *how;

static void *make_own(void *unused) {
    (void)unused;
    if (unshare(CLONE_FILES) != 0)
        exit(2);
    socket(AF_INET, SOCK_STREAM, 0);
    return NULL;
}

/* A number on which the library believes a TCP socket. */
static int believed(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (!strcmp(how, "fclose"))
        fclose(fdopen(fd, "r+"));
    else if (!strcmp(how, "vfork")) {
        syscall(SYS_close, fd);
        pid_t child = vfork();
        if (child == 0) {
            socket(AF_INET, SOCK_STREAM, 0);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    } else if (!strcmp(how, "unshare")) {
        pthread_t thread;
        syscall(SYS_close, fd);
        if (pthread_create(&thread, NULL, make_own, NULL) != 0)
            exit(2);
        pthread_join(thread, NULL);
    } else if (!strcmp(how, "clone")) {
        pid_t child = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
        if (child == 0) {
            close(fd);
            _exit(0);
        }
        waitpid(child, NULL, 0);
    } else if (!strcmp(how, "close_range")) {
        syscall(SYS_close_range, fd, fd, 0);
    } else
        syscall(SYS_close, fd);
    return fd;
}

static int unix_socket(int type, int number) {
    int fd = syscall(SYS_socket, AF_UNIX, type, 0);
    if (fd != number)
        exit(3);
    return fd;
}

static void nothing(int unused) {
    (void)unused;
}

int main(int count, char **args) {
    if (count < 2)
        return 2;
    how = args[1];
    int pair[2], number = believed(), size = 100000;
    if (syscall(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET, 0, pair) || pair[0] != number)
        return 3;
    setsockopt(number, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    say("sndbuf", kernel_option(number, SOL_SOCKET, SO_SNDBUF));

    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t len = sizeof name.sun_family + 1 + sprintf(name.sun_path + 1, "tcptune-stale-%d", getpid());
    int listener = unix_socket(SOCK_STREAM, believed());
    bind(listener, (struct sockaddr *)&name, len);
    listen(listener, 0);
    connect(unix_socket(SOCK_STREAM, believed()), (struct sockaddr *)&name, len);
    int accepted = accept(listener, NULL, NULL);
    struct timeval limit = {9, 9};
    socklen_t room = sizeof limit;
    syscall(SYS_getsockopt, accepted, SOL_SOCKET, SO_RCVTIMEO, &limit, &room);
    say("accepted_limit", limit.tv_sec * 1000000 + limit.tv_usec);

    /* One more fits its queue, and the next waits; the alarm ends that. */
    struct sigaction action = {.sa_handler = nothing};
    sigaction(SIGALRM, &action, NULL);
    connect(unix_socket(SOCK_STREAM, believed()), (struct sockaddr *)&name, len);
    int waits = unix_socket(SOCK_STREAM, believed());
    ualarm(300000, 0);
    say("connect", connect(waits, (struct sockaddr *)&name, len));
    say("errno", errno);
    say("flags", fcntl(waits, F_GETFL));
    room = sizeof limit;
    syscall(SYS_getsockopt, waits, SOL_SOCKET, SO_RCVTIMEO, &limit, &room);
    say("connected_limit", limit.tv_sec * 1000000 + limit.tv_usec);
    return 0;
}
