/* errors: wrong arguments and other kinds of socket; each answer with its errno. Same output without and with tcptune. */
#include "probe.h"
#include <sys/mman.h>
#include <sys/un.h>

static void answer(const char *what, int r) {
    int error = errno;
    printf("%s: %d %d\n", what, r < 0 ? r : 0, r < 0 ? error : 0);
    fflush(stdout);
    errno = 4711;
}

static void keeps_errno(const char *what, int r) {
    printf("%s: %s, errno %s\n", what, r >= 0 ? "succeeded" : "failed", errno == 4711 ? "untouched" : "changed");
    errno = 4711;
}

int main(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    void *bad = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int one = 1, pipes[2], fd;
    socklen_t len = sizeof a;
    errno = 4711;
    keeps_errno("socket", fd = socket(AF_INET, SOCK_STREAM, 0));
    keeps_errno("setsockopt", setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one));
    keeps_errno("bind", bind(fd, (struct sockaddr *)&a, sizeof a));
    keeps_errno("listen", listen(fd, 3));
    getsockname(fd, (struct sockaddr *)&a, &len);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    answer("connect NULL", connect(client, NULL, sizeof a));
    answer("connect bad address", connect(client, bad, sizeof a));
    answer("connect length 0", connect(client, (struct sockaddr *)&a, 0));
    answer("connect length 5", connect(client, (struct sockaddr *)&a, 5));
    answer("connect length huge", connect(client, (struct sockaddr *)&a, 100000));
    answer("connect length -1", connect(client, (struct sockaddr *)&a, (socklen_t)-1));
    answer("connect -1", connect(-1, (struct sockaddr *)&a, sizeof a));
    answer("connect 999", connect(999, (struct sockaddr *)&a, sizeof a));
    answer("connect file", connect(open("/dev/null", O_RDWR), (struct sockaddr *)&a, sizeof a));
    answer("connect listener", connect(fd, (struct sockaddr *)&a, sizeof a));
    keeps_errno("connect", connect(client, (struct sockaddr *)&a, sizeof a));
    answer("connect again", connect(client, (struct sockaddr *)&a, sizeof a));
    keeps_errno("accept", accept(fd, NULL, NULL));
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    answer("connect AF_UNSPEC", connect(client, &none, sizeof none));
    a.sin_family = 77;
    answer("connect family 77", connect(client, (struct sockaddr *)&a, sizeof a));
    a.sin_family = AF_INET;
    answer("bind bad address", bind(client, bad, sizeof a));
    answer("bind -1", bind(-1, (struct sockaddr *)&a, sizeof a));
    answer("bind twice", bind(fd, (struct sockaddr *)&a, sizeof a));
    answer("listen -1", listen(-1, 3));
    answer("accept -1", accept(-1, NULL, NULL));
    answer("accept client", accept(client, NULL, NULL));
    answer("setsockopt -1", setsockopt(-1, IPPROTO_TCP, TCP_KEEPIDLE, &one, sizeof one));
    answer("setsockopt bad pointer", setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, bad, sizeof one));
    answer("setsockopt short", setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &one, 1));
    answer("setsockopt out of range", setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){99999}, sizeof one));
    answer("setsockopt unknown", setsockopt(fd, IPPROTO_TCP, 9999, &one, sizeof one));
    answer("getsockopt bad pointer", getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, bad, &len));
    answer("getsockopt bad length", getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &one, bad));
    answer("getsockopt pipe", (pipe(pipes), getsockopt(pipes[0], SOL_SOCKET, SO_TYPE, &one, &len)));
    answer("write closed pipe end", (int)write(pipes[0], "x", 1));
    answer("read -1", (int)read(-1, &one, 1));
    answer("close -1", close(-1));
    answer("dup -1", dup(-1));
    answer("dup2 bad", dup2(-1, 50));
    struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/socket"};
    answer("unix connect", connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&path, sizeof path));
    answer("socket family -1", socket(-1, SOCK_STREAM, 0));
    answer("socket type 99", socket(AF_INET, 99, 0));
    answer("socket protocol 255", socket(AF_INET, SOCK_STREAM, 255));
    answer("poll bad pointer", poll(bad, 1, 0));
    return 0;
}
