/* What a program sees of its own sockets. The first argument says what it does, the second is a port on loopback. Each
   prints one line of words. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in peer;

static int get(int fd, int level, int name) {
    int value = -1;
    socklen_t len = sizeof value;
    if (getsockopt(fd, level, name, &value, &len) != 0) return -errno;
    return value;
}

static int set(int fd, int level, int name, int value) {
    return setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : errno;
}

static int user_timeout(int fd) { return get(fd, IPPROTO_TCP, TCP_USER_TIMEOUT); }
static int idle(int fd) { return get(fd, IPPROTO_TCP, TCP_KEEPIDLE); }

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int tcp(void) { return socket(AF_INET, SOCK_STREAM, 0); }

static int connected(int fd) { return connect(fd, (struct sockaddr *)&peer, sizeof peer) == 0 ? 0 : errno; }

static void sleep_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&time, &time) != 0) {}
}

/* errno, keepalive, its idle time; twice on the same socket where the first one fails. */
static void blocking(void) {
    int fd = tcp();
    long start = now_ms();
    int first = connected(fd);
    long time = now_ms() - start;
    printf("%d %ld %d %d", first, time, get(fd, SOL_SOCKET, SO_KEEPALIVE), idle(fd));
    if (first != 0) {
        start = now_ms();
        printf(" %d", connected(fd));
        printf(" %ld", now_ms() - start);
    }
    printf("\n");
}

static void nonblocking(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    long start = now_ms();
    int first = connected(fd);
    struct pollfd poll_fd = {fd, POLLOUT, 0};
    poll(&poll_fd, 1, 20000);
    int error = get(fd, SOL_SOCKET, SO_ERROR);
    printf("%d %d %ld %d\n", first == EINPROGRESS, error, now_ms() - start, idle(fd));
}

/* A program's own values, before and after connect; then wrong arguments. */
static void own(void) {
    int fd = tcp();
    set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 5);
    connected(fd);
    printf("%d ", idle(fd));
    int done = set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 6);
    printf("%d %d ", done, idle(fd));
    printf("%d ", set(fd, IPPROTO_TCP, TCP_KEEPIDLE, 0));
    printf("%d ", setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, (void *)8, 4) == 0 ? 0 : errno);
    printf("%d ", setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &done, 1) == 0 ? 0 : errno);
    printf("%d ", set(-1, IPPROTO_TCP, TCP_KEEPIDLE, 6));
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    int kept = set(udp, SOL_SOCKET, SO_KEEPALIVE, 0);
    printf("%d %d %d\n", kept, get(udp, SOL_SOCKET, SO_KEEPALIVE), idle(fd));
}

/* A listener, and what it accepts. The kernel tells a listener's backlog as tcpi_sacked. */
static void server(void) {
    int listener = tcp();
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bind(listener, (struct sockaddr *)&own, sizeof own);
    int r = listen(listener, 5) || listen(listener, 6); /* as a server that is told to reload does */
    socklen_t len = sizeof peer;
    getsockname(listener, (struct sockaddr *)&peer, &len);
    int client = tcp();
    connected(client);
    int accepted = accept(listener, NULL, NULL);
    struct tcp_info info;
    len = sizeof info;
    getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &len);
    printf("%d %u %d %d %d\n", r, info.tcpi_sacked, get(listener, SOL_SOCKET, SO_REUSEADDR), idle(accepted), idle(client));
}

/* The user timeout during the attempt, and so much later, wherever the socket has gone. */
static void later(const char *where, long ms) {
    int fd = tcp();
    connected(fd);
    printf("%d ", user_timeout(fd));
    fflush(stdout);
    if (strcmp(where, "moved") == 0) {
        int other = fcntl(fd, F_DUPFD, 20);
        close(fd);
        fd = other;
    } else if (strcmp(where, "forked") == 0) {
        int ends[2];
        char byte = 0;
        if (pipe(ends) != 0) exit(1);
        if (fork() == 0) {
            if (read(ends[0], &byte, 1) != 1) exit(1);
            printf("%d\n", user_timeout(fd));
            exit(0);
        }
        close(fd);
        sleep_ms(ms);
        if (write(ends[1], &byte, 1) != 1) exit(1);
        wait(NULL);
        return;
    } else if (strcmp(where, "set") == 0) {
        set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 12345);
    }
    sleep_ms(ms);
    printf("%d\n", user_timeout(fd));
}

/* How many of so many connects failed, and how many sockets have not the idle time of the settings. */
static int failed, untuned;

static void storm(int count) {
    for (int i = 0; i < count; i++) {
        int fd = tcp();
        if (connected(fd) != 0) __atomic_fetch_add(&failed, 1, __ATOMIC_RELAXED);
        if (idle(fd) != 77) __atomic_fetch_add(&untuned, 1, __ATOMIC_RELAXED);
        close(fd);
    }
}

static void *thread(void *count) {
    storm(*(int *)count);
    return NULL;
}

static void threads(int threads, int count) {
    pthread_t all[256];
    for (int i = 0; i < threads; i++) pthread_create(&all[i], NULL, thread, &count);
    for (int i = 0; i < threads; i++) pthread_join(all[i], NULL);
}

static void forks(int count) {
    for (int i = 0; i < count; i += 16) {
        for (int child = 0; child < 16; child++) {
            if (fork() == 0) {
                storm(1);
                exit(failed | untuned << 1);
            }
        }
        int status;
        while (wait(&status) > 0) {
            failed += WEXITSTATUS(status) & 1;
            untuned += WEXITSTATUS(status) >> 1;
        }
    }
}

static volatile long handled;
static void handler(int signal) {
    (void)signal;
    handled++;
}

/* 5,000 signals a second during connects: how many failed, of them with EINTR, and whether signals came. */
static void signals(int flags, int count) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {{0, 200}, {0, 200}};
    setitimer(ITIMER_REAL, &timer, NULL);
    int interrupted = 0;
    for (int i = 0; i < count; i++) {
        int fd = tcp();
        int error = connected(fd);
        if (error == EINTR) interrupted++;
        else if (error != 0) failed++;
        if (error == 0 && idle(fd) != 77) untuned++;
        close(fd);
    }
    struct itimerval none = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &none, NULL);
    printf("%d %d %d %d\n", failed, untuned, interrupted, handled > 0);
}

/* Blocking connect to where nobody answers, interrupted after 300 ms: errno, and the time it took. */
static void interrupted(int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval timer = {{0, 0}, {0, 300000}};
    setitimer(ITIMER_REAL, &timer, NULL);
    int fd = tcp();
    long start = now_ms();
    int error = connected(fd);
    printf("%d %ld\n", error, now_ms() - start);
}

/* Sockets that are not TCP: what connect says of each. */
static void others(void) {
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    int r = connected(udp);
    struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "/nosuch/socket/of/a/test"};
    int unix_socket = socket(AF_UNIX, SOCK_STREAM, 0);
    int of_unix = connect(unix_socket, (struct sockaddr *)&path, sizeof path) == 0 ? 0 : errno;
    int bad = connect(-1, (struct sockaddr *)&peer, sizeof peer) == 0 ? 0 : errno;
    int fault = connect(tcp(), (void *)8, sizeof peer) == 0 ? 0 : errno;
    int file = connect(0, (struct sockaddr *)&peer, sizeof peer) == 0 ? 0 : errno;
    printf("%d %d %d %d %d\n", r, of_unix, bad, fault, file);
}

int main(int argc, char **argv) {
    const char *what = argv[1];
    int number = argc > 3 ? atoi(argv[3]) : 0;
    peer.sin_family = AF_INET;
    peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    peer.sin_port = htons(argc > 2 ? atoi(argv[2]) : 0);
    if (strcmp(what, "undumpable") == 0) {
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        blocking();
    } else if (strcmp(what, "blocking") == 0) blocking();
    else if (strcmp(what, "nonblocking") == 0) nonblocking();
    else if (strcmp(what, "own") == 0) own();
    else if (strcmp(what, "server") == 0) server();
    else if (strcmp(what, "later") == 0) later(argv[4], number);
    else if (strcmp(what, "others") == 0) others();
    else if (strcmp(what, "signals") == 0) signals(strcmp(argv[4], "restart") == 0 ? SA_RESTART : 0, number);
    else if (strcmp(what, "interrupted") == 0) interrupted(strcmp(argv[3], "restart") == 0 ? SA_RESTART : 0);
    else if (strcmp(what, "io_uring") == 0) {
        char parameters[120] = {0};
        printf("%d\n", syscall(SYS_io_uring_setup, 4, parameters) < 0 ? errno : 0);
    } else if (strcmp(what, "children") == 0) {
        int status;
        int waited = waitpid(-1, &status, WNOHANG);
        printf("%d %d\n", waited, errno);
    } else {
        if (strcmp(what, "storm") == 0) storm(number);
        else if (strcmp(what, "threads") == 0) threads(64, number);
        else if (strcmp(what, "forks") == 0) forks(number);
        else return 64;
        printf("%d %d\n", failed, untuned);
    }
    return 0;
}
