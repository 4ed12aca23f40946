/* states IP HOLE-PORT: connect, and connect to AF_UNSPEC, in every state a socket can be in, blocking and not. Each line:
 * result and errno; then what the kernel says of the socket: its TCP state, SO_ERROR and the file status flags; with
 * USER_TIMEOUT_TOO also that option, once the program has noticed that an attempt is over. */
#include "every.h"

static union address live, refusing, hole;
static socklen_t len = sizeof live.v4;
static const struct sockaddr unspecified = {.sa_family = AF_UNSPEC};
static int listener;

static void state(const char *name, int fd) {
    printf("%s: tcp %d, error %d, flags %#x\n", name, kernel_option(fd, IPPROTO_TCP, TCP_INFO) & 0xff,
           kernel_option(fd, SOL_SOCKET, SO_ERROR), fcntl(fd, F_GETFL));
}

static void user_timeout(int fd) {
    if (getenv("USER_TIMEOUT_TOO"))
        say("user_timeout", kernel_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT));
}

static void to(const char *name, int fd, const void *addr, socklen_t addr_len) {
    errno = UNTOUCHED;
    show(name, connect(fd, addr, addr_len));
    state(name, fd);
}

static void wait_for(int fd) {
    struct pollfd p = {fd, POLLOUT, 0};
    SHOW(poll(&p, 1, 3000));
    int error = -1;
    socklen_t error_len = sizeof error;
    SHOW(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_len));
    say("so_error", error);
    user_timeout(fd);
}

static void dissolved(const char *name, int fd) {
    union address any;
    socklen_t any_len = sizeof any;
    to(name, fd, &unspecified, sizeof unspecified);
    to("  unspecified again", fd, &unspecified, sizeof unspecified);
    to("  then live", fd, &live, len);
    if (fcntl(fd, F_GETFL) & O_NONBLOCK)
        wait_for(fd);
    to("  then live again", fd, &live, len);
    to("  then unspecified", fd, &unspecified, sizeof unspecified);
    to("  then refusing", fd, &refusing, len);
    if (fcntl(fd, F_GETFL) & O_NONBLOCK)
        wait_for(fd);
    to("  then live at last", fd, &live, len);
    getpeername(fd, &any.any, &any_len);
    user_timeout(fd);
    SHOW(close(fd));
    for (int accepted; (accepted = accept(listener, NULL, NULL)) >= 0;)
        close(accepted);
}

/* Whether a blocking connect that is not the first has waited, too. */
static void waited(long start, int fd) {
    if (!(fcntl(fd, F_GETFL) & O_NONBLOCK))
        say("waited", milliseconds() - start >= 80);
}

static void connecting(int flags) {
    /* A send timeout of the program's own, or a blocking connect to a connecting socket would wait. */
    struct timeval soon = {0, 100000};
    int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof soon);
    to("to the hole", fd, &hole, len);
    long start = milliseconds();
    to("to the hole again", fd, &hole, len);
    waited(start, fd);
    to("elsewhere meanwhile", fd, &live, len);
    to("short meanwhile", fd, &live, 1);
    to("nowhere meanwhile", fd, NULL, len);
    refusing.v4.sin_family = 77;
    to("family 77 meanwhile", fd, &refusing, len);
    refusing.v4.sin_family = AF_INET;
    SHOW(bind(fd, &live.any, len));
    SHOW(listen(fd, 1));
    SHOW(accept(fd, NULL, NULL));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) ^ O_NONBLOCK);
    start = milliseconds();
    to("the other kind meanwhile", fd, &hole, len);
    waited(start, fd);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) ^ O_NONBLOCK);
    dissolved("unspecified meanwhile", fd);
}

static void every_state(int flags) {
    int kind = SOCK_STREAM | flags;
    union address any = {.v4 = {.sin_family = AF_INET}};
    dissolved("fresh", socket(AF_INET, kind, 0));
    int fd = socket(AF_INET, kind, 0);
    SHOW(bind(fd, &any.any, len));
    SHOW(bind(fd, &any.any, len));
    dissolved("bound", fd);
    fd = socket(AF_INET, kind, 0);
    SHOW(listen(fd, 1));
    to("listening to live", fd, &live, len);
    SHOW(bind(fd, &any.any, len));
    dissolved("listening", fd);
    fd = socket(AF_INET, kind, 0);
    to("live", fd, &live, len);
    if (flags)
        wait_for(fd);
    to("connected to live", fd, &live, len);
    to("connected to refusing", fd, &refusing, len);
    to("connected, short", fd, &live, 1);
    SHOW(listen(fd, 1));
    dissolved("connected", fd);
    fd = socket(AF_INET, kind, 0);
    to("live", fd, &live, len);
    if (flags)
        wait_for(fd);
    close(accept(listener, NULL, NULL));
    to("left by the peer", fd, &live, len);
    shutdown(fd, SHUT_RDWR);
    to("shut down", fd, &live, len);
    dissolved("shut down", fd);
    fd = socket(AF_INET, kind, 0);
    to("refusing", fd, &refusing, len);
    to("refusing again", fd, &refusing, len);
    dissolved("refused", fd);
    fd = socket(AF_INET, kind, 0);
    struct pollfd p = {fd, POLLOUT, 0};
    SHOW(connect(fd, &refusing.any, len));
    SHOW(poll(&p, 1, 3000)); /* nobody fetches the error but the next connect */
    SHOW(connect(fd, &live.any, len));
    SHOW(connect(fd, &live.any, len));
    SHOW(close(fd));
    connecting(flags);
    dissolved("udp", socket(AF_INET, SOCK_DGRAM | flags, 0));
    dissolved("mptcp", socket(AF_INET, SOCK_STREAM | flags, 262));
}

int main(int count, char **args) {
    (void)count;
    hole = address(args[1], args[2], &len);
    live = refusing = address(args[1], "0", &len);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    bind(listener, &live.any, len);
    listen(listener, 20);
    getsockname(listener, &live.any, &len);
    int bound = socket(AF_INET, SOCK_STREAM, 0); /* and does not listen: its port refuses */
    bind(bound, &refusing.any, len);
    getsockname(bound, &refusing.any, &len);
    every_state(0);
    every_state(SOCK_NONBLOCK);
    return 0;
}
