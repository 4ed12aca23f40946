/* attempts MODE IP PORT: what remains of TCP_USER_TIMEOUT, as the kernel has it, on nonblocking connects.
 *
 *   threads      1,000 connects to PORT, in an epoll set before they begin: another thread uses them as soon as it hears
 *   sigio        300 connects to PORT, which a handler of SIGIO uses before connect has returned
 *   slow         a port of its own that answers late, and reads nothing for 4.5 s: one write of 16 MB, in a blocking call
 *   blocking WAY a port of its own that answers late: connect, made blocking while it goes on, and then WAY
 *   others WAY   a port of its own that answers late; meanwhile a child of vfork, or a thread with descriptors of its own,
 *                closes the number of the attempt: close, dup2, close_range
 *   kept WAY     the number of a connect to PORT, which never answers, is closed; another one is got by WAY: dup, raw (a dup that
 *                no hook sees), passed (SCM_RIGHTS), over (the same; dup2 closes the number); or the number itself stays, where a child closes it: fork
 *   unspec       a connect that is given up by AF_UNSPEC; the socket listens then
 *   nothing      RLIMIT_NOFILE is 0 while the program waits
 *   own          another thread sets a value of its own, again and again
 *   number       a number that is closed and made again by F_DUPFD, of a socket whose own value is that of the attempt
 *   give_up      four threads that connect to PORT, which never answers, and close at once, or a little later
 *   idle WAY     a connection of which nothing is heard, while the program waits longer than the attempt may last
 */
#include "probe.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/wait.h>

static union address peer;
static socklen_t peer_len;

static int user_timeout(int fd) { return kernel_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT); }

static int nonblocking(void) { return socket(peer.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0); }

static void start_thread(pthread_t *thread, void *(*run)(void *), void *argument) {
    if (pthread_create(thread, NULL, run, argument) != 0)
        exit(2);
}

/* ---- threads ---- */

enum { COUNT = 1000 };
static atomic_int used, kept;

static void *hear(void *set) {
    struct epoll_event event;
    while (atomic_load(&used) < COUNT && epoll_wait(*(int *)set, &event, 1, 5000) == 1) {
        /* Not connected yet, it hangs up. */
        if (event.events & EPOLLHUP || write(event.data.fd, "x", 1) != 1)
            continue;
        epoll_ctl(*(int *)set, EPOLL_CTL_DEL, event.data.fd, NULL);
        atomic_fetch_add(&kept, user_timeout(event.data.fd) != 0);
        atomic_fetch_add(&used, 1);
    }
    return NULL;
}

static void threads(void) {
    int set = epoll_create1(EPOLL_CLOEXEC), still = 0;
    static int fds[COUNT];
    pthread_t thread;
    start_thread(&thread, hear, &set);
    for (int i = 0; i < COUNT; i++) {
        struct epoll_event event = {.events = EPOLLOUT | EPOLLET};
        event.data.fd = fds[i] = nonblocking();
        epoll_ctl(set, EPOLL_CTL_ADD, fds[i], &event);
        connect(fds[i], &peer.any, peer_len);
    }
    pthread_join(thread, NULL);
    for (int i = 0; i < COUNT; i++)
        still += user_timeout(fds[i]) != 0;
    say("used", atomic_load(&used));
    say("kept", atomic_load(&kept));
    say("still", still);
}

/* ---- a handler ---- */

static volatile int heard_fd, heard, heard_kept;

static void hear_signal(int number) {
    int before = errno;
    (void)number;
    if (!heard && write(heard_fd, "x", 1) == 1) {
        heard_kept += user_timeout(heard_fd) != 0;
        heard = 1;
    }
    errno = before;
}

static void sigio(void) {
    enum { TIMES = 300 };
    int by_handler = 0, inside = 0, still = 0;
    struct sigaction action = {.sa_handler = hear_signal, .sa_flags = SA_RESTART};
    sigaction(SIGIO, &action, NULL);
    for (int i = 0; i < TIMES; i++) {
        heard_fd = nonblocking();
        heard = 0;
        fcntl(heard_fd, F_SETOWN, getpid());
        fcntl(heard_fd, F_SETFL, O_NONBLOCK | O_ASYNC);
        connect(heard_fd, &peer.any, peer_len);
        inside += heard;
        for (long end = milliseconds() + 5000; !heard && milliseconds() < end;)
            usleep(1000);
        by_handler += heard;
        still += user_timeout(heard_fd) != 0;
        syscall(SYS_close, heard_fd);
    }
    say("used", by_handler);
    say("inside", inside);
    say("kept", heard_kept);
    say("still", still);
}

/* ---- a port that answers late ---- */

static int late;

/* The queue of the listener is full, so that the SYN is dropped; the one a second later is answered. */
static void listen_late(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    peer_len = sizeof a;
    late = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(late, (struct sockaddr *)&a, sizeof a) || getsockname(late, &peer.any, &peer_len) || listen(late, 0))
        exit(2);
    for (int i = 0; i < 4; i++)
        syscall(SYS_connect, syscall(SYS_socket, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), &peer, peer_len);
    usleep(100000);
}

static void *answer(void *unused) {
    (void)unused;
    usleep(300000);
    for (int i = 0; i < 5; i++) {
        struct pollfd p = {late, POLLIN, 0};
#ifdef SYS_poll
        if (syscall(SYS_poll, &p, 1, 3000) == 1)
#else /* aarch64 */
        if (syscall(SYS_ppoll, &p, 1, &(struct timespec){3, 0}, NULL, 0) == 1)
#endif
            syscall(SYS_accept4, late, NULL, NULL, 0);
    }
    return NULL;
}

/* Accepts late, reads nothing for longer than the attempt may last, and then everything. */
static void *read_late(void *port) {
    static char bytes[1 << 16];
    usleep(300000);
    for (int i = 0; i < 5; i++) {
        int fd = syscall(SYS_accept4, late, NULL, NULL, 0);
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        if (fd < 0 || syscall(SYS_getpeername, fd, &from, &len) != 0 || from.sin_port != *(in_port_t *)port)
            continue; /* one of those that fill the queue */
        usleep(4500000);
        while (syscall(SYS_read, fd, bytes, sizeof bytes) > 0)
            ;
        return NULL;
    }
    return NULL;
}

static void slow(void) {
    enum { BYTES = 16 << 20 };
    struct sockaddr_in own;
    socklen_t len = sizeof own;
    pthread_t thread;
    listen_late();
    int fd = nonblocking();
    connect(fd, &peer.any, peer_len);
    say("during", user_timeout(fd));
    getsockname(fd, (struct sockaddr *)&own, &len);
    fcntl(fd, F_SETFL, 0);
    start_thread(&thread, read_late, &own.sin_port);
    long start = milliseconds();
    say("as_expected", write(fd, calloc(1, BYTES), BYTES) == BYTES);
    say("took", milliseconds() - start);
    say("after", user_timeout(fd));
    close(fd);
    pthread_join(thread, NULL);
}

static volatile sig_atomic_t handled;
static void handler(int number) { (void)number, handled = 1; }

static void blocking(const char *way) {
    pthread_t thread;
    char bytes[100];
    struct sigaction interrupt = {.sa_handler = handler};
    listen_late();
    int fd = nonblocking();
    connect(fd, &peer.any, peer_len);
    say("during", user_timeout(fd));
    fcntl(fd, F_SETFL, 0);
    long start = milliseconds();
    int r;
    if (!strcmp(way, "interrupted")) {
        sigaction(SIGALRM, &interrupt, NULL);
        alarm(1);
        r = read(fd, bytes, 1) == -1 && errno == EINTR && handled;
    } else if (!strcmp(way, "timeout")) {
        struct timeval limit = {0, 200000};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        r = read(fd, bytes, 1) == -1 && errno == EAGAIN;
    } else {
        start_thread(&thread, answer, NULL);
        if (!strcmp(way, "connect")) {
            r = connect(fd, &peer.any, peer_len) == 0;
        } else if (!strcmp(way, "write")) {
            r = write(fd, bytes, sizeof bytes) == sizeof bytes;
        } else {
            struct timeval limit = {4, 0}; /* longer than the attempt may last */
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
            r = recv(fd, bytes, 1, 0) == -1 && errno == EAGAIN;
        }
    }
    say("took", milliseconds() - start);
    say("as_expected", r);
    say("after", user_timeout(fd));
}

/* ---- others' descriptors ---- */

static int others_fd;

static void *close_own(void *unused) {
    (void)unused;
    if (close_range(3, ~0U, CLOSE_RANGE_UNSHARE) != 0)
        exit(2);
    return NULL;
}

static void others(const char *way) {
    pthread_t thread;
    listen_late();
    others_fd = nonblocking();
    connect(others_fd, &peer.any, peer_len);
    say("during", user_timeout(others_fd));
    if (!strcmp(way, "close_range")) {
        start_thread(&thread, close_own, NULL);
        pthread_join(thread, NULL);
    } else if (vfork() == 0) {
        if (!strcmp(way, "close"))
            close(others_fd);
        else
            dup2(STDIN_FILENO, others_fd);
        _exit(0);
    }
    start_thread(&thread, answer, NULL);
    struct pollfd p = {others_fd, POLLOUT, 0};
    say("as_expected", poll(&p, 1, 5000) == 1 && p.revents == POLLOUT);
    say("after", user_timeout(others_fd));
}

/* The same socket, sent to itself. */
static int passed(int fd, int by_dup2) {
    int pair[2];
    union {
        char bytes[CMSG_SPACE(sizeof fd)];
        struct cmsghdr header;
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    char byte = 0;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        exit(2);
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    if (sendmsg(pair[0], &message, 0) != 1)
        exit(2);
    if (by_dup2 && (dup2(-1, fd) != -1 || user_timeout(fd) == 0 || dup2(pair[0], fd) != fd))
        exit(2);
    close(fd);
    if (recvmsg(pair[1], &message, 0) != 1)
        exit(2);
    memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    return fd;
}

static void kept_by(const char *way) {
    int fd = nonblocking(), other = fd;
    connect(fd, &peer.any, peer_len);
    say("during", user_timeout(fd));
    if (!strcmp(way, "fork")) {
        pid_t child = fork();
        if (child == 0)
            _exit(close(fd));
        waitpid(child, NULL, 0);
    } else if (!strcmp(way, "passed") || !strcmp(way, "over")) {
        other = passed(fd, !strcmp(way, "over"));
    } else {
        other = !strcmp(way, "dup") ? dup(fd) : syscall(SYS_dup, fd);
        close(fd);
    }
    say("after", user_timeout(other));
}

/* ---- the rest ---- */

static void unspec(void) {
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a;
    int fd = nonblocking();
    connect(fd, &peer.any, peer_len);
    say("during", user_timeout(fd));
    say("given_up", connect(fd, &none, sizeof none) == 0);
    if (bind(fd, (struct sockaddr *)&a, len) != 0 || listen(fd, 5) != 0)
        exit(2);
    getsockname(fd, (struct sockaddr *)&a, &len);
    int client = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    syscall(SYS_connect, client, &a, len);
    usleep(50000);
    say("listener", user_timeout(fd));
    say("accepted", user_timeout(accept(fd, NULL, NULL)));
}

static void nothing(void) {
    struct rlimit none = {0, 0};
    int fd = nonblocking(), set = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLOUT | EPOLLONESHOT};
    connect(fd, &peer.any, peer_len);
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    setrlimit(RLIMIT_NOFILE, &none);
    say("heard", epoll_wait(set, &event, 1, 5000));
    say("nothing_else", epoll_wait(set, &event, 1, 1500) == 0);
    say("after", user_timeout(fd));
}

static int own_fd;
static atomic_int over;

static void *set_own(void *unused) {
    (void)unused;
    int value = 20000;
    do
        setsockopt(own_fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, sizeof value);
    while (value++, !atomic_load(&over));
    return NULL;
}

static void own(void) {
    int lost = 0, hidden = 0, rounds = 0;
    for (long end = milliseconds() + 2000; milliseconds() < end; rounds++) {
        pthread_t thread;
        struct pollfd p = {nonblocking(), POLLOUT, 0};
        int value = 0;
        socklen_t len = sizeof value;
        own_fd = p.fd;
        atomic_store(&over, 0);
        start_thread(&thread, set_own, NULL);
        connect(p.fd, &peer.any, peer_len);
        poll(&p, 1, 1000);
        write(p.fd, "x", 1);
        atomic_store(&over, 1);
        pthread_join(thread, NULL);
        getsockopt(p.fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &value, &len);
        lost += user_timeout(p.fd) < 20000;
        hidden += value != user_timeout(p.fd);
        close(p.fd);
    }
    say("rounds", rounds);
    say("lost", lost);
    say("hidden", hidden);
}

static void number(int ms) {
    int attempt = nonblocking(), other = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(other, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
    syscall(SYS_connect, other, &peer, peer_len);
    connect(attempt, &peer.any, peer_len);
    syscall(SYS_close, attempt); /* unseen */
    say("same", fcntl(other, F_DUPFD, attempt) == attempt);
    write(attempt, "x", 1);
    say("after", user_timeout(attempt));
}

static atomic_int attempts, unlimited;

static void *give_up(void *argument) {
    unsigned seed = (unsigned)(long)argument;
    for (long end = milliseconds() + 2500; milliseconds() < end;) {
        int fd = nonblocking();
        if (connect(fd, &peer.any, peer_len) == -1 && errno == EINPROGRESS) {
            for (int i = rand_r(&seed) % 4; i > 0; i--)
                sched_yield();
            atomic_fetch_add(&unlimited, user_timeout(fd) == 0);
            atomic_fetch_add(&attempts, 1);
        }
        struct pollfd p = {fd, POLLOUT, 0};
        if (rand_r(&seed) % 64 == 0)
            poll(&p, 1, 30);
        close(fd);
    }
    return NULL;
}

static void all_give_up(void) {
    pthread_t threads[4];
    for (long i = 0; i < 4; i++)
        start_thread(&threads[i], give_up, (void *)i);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    say("attempts", atomic_load(&attempts));
    say("unlimited", atomic_load(&unlimited));
}

static void idle(const char *way) {
    int fd = nonblocking(), set = epoll_create1(EPOLL_CLOEXEC), ends[2], r;
    struct epoll_event event = {.events = EPOLLIN};
    struct timespec precise = {1, 700000000};
    struct timeval limit = {1, 700000};
    struct sigaction restart = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigset_t mask;
    fd_set read;
    if (pipe(ends) != 0)
        exit(2);
    struct pollfd p = {ends[0], POLLIN, 0};
    connect(fd, &peer.any, peer_len);
    epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
    sigaction(SIGALRM, &restart, NULL);
    sigemptyset(&mask);
    FD_ZERO(&read);
    FD_SET(ends[0], &read);
    long start = milliseconds();
    if (!strcmp(way, "poll")) r = poll(&p, 1, 1700);
    else if (!strcmp(way, "ppoll")) r = ppoll(&p, 1, &precise, &mask);
    else if (!strcmp(way, "select")) r = select(ends[0] + 1, &read, NULL, NULL, &limit);
    else if (!strcmp(way, "pselect")) r = pselect(ends[0] + 1, &read, NULL, NULL, &precise, &mask);
    else if (!strcmp(way, "epoll_wait")) r = epoll_wait(set, &event, 1, 1700);
    else if (!strcmp(way, "epoll_pwait")) r = epoll_pwait(set, &event, 1, 1700, &mask);
    else if (!strcmp(way, "signal")) r = (alarm(2), epoll_wait(set, &event, 1, -1) == -1 && errno == EINTR ? 0 : 1);
    else if (!strcmp(way, "held")) {
        /* Held back by the wait's own mask alone: its handler runs after it. */
        sigaddset(&mask, SIGALRM);
        alarm(1);
        precise.tv_sec = 2;
        r = ppoll(&p, 1, &precise, &mask) == 0 && handled ? 0 : 1;
    } else exit(2);
    say("nothing", r == 0);
    say("took", milliseconds() - start);
    say("left", limit.tv_sec * 1000 + limit.tv_usec / 1000);
    say("set", FD_ISSET(ends[0], &read) != 0);
    say("after", user_timeout(fd));
}

int main(int count, char **args) {
    peer = address(args[count - 2], args[count - 1], &peer_len);
    if (!strcmp(args[1], "threads")) threads();
    else if (!strcmp(args[1], "sigio")) sigio();
    else if (!strcmp(args[1], "slow")) slow();
    else if (!strcmp(args[1], "blocking")) blocking(args[2]);
    else if (!strcmp(args[1], "others")) others(args[2]);
    else if (!strcmp(args[1], "kept")) kept_by(args[2]);
    else if (!strcmp(args[1], "unspec")) unspec();
    else if (!strcmp(args[1], "nothing")) nothing();
    else if (!strcmp(args[1], "own")) own();
    else if (!strcmp(args[1], "number")) number(1000);
    else if (!strcmp(args[1], "give_up")) all_give_up();
    else if (!strcmp(args[1], "idle")) idle(args[2]);
    else return 2;
    return 0;
}
