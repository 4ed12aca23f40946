/* stack IP PORT [nonblocking]: how much of its own stack a signal handler uses that connects. The stack is painted before. */
#include "probe.h"
#include <signal.h>

enum { SIZE = 65536 };
static unsigned char stack[SIZE];
static union address peer;
static socklen_t len;
static int fd;

static void connects(int unused) {
    (void)unused;
    connect(fd, &peer.any, len);
}

int main(int count, char **args) {
    if (count < 3)
        return 2;
    peer = address(args[1], args[2], &len);
    socklen_t length;
    union address refuses = address(args[1], "1", &length);
    connect(socket(peer.any.sa_family, SOCK_STREAM, 0), &refuses.any, length); /* the loader has its symbols now */
    stack_t own = {.ss_sp = stack, .ss_size = SIZE};
    struct sigaction action = {.sa_handler = connects, .sa_flags = SA_ONSTACK};
    sigaltstack(&own, NULL);
    sigaction(SIGUSR1, &action, NULL);
    fd = socket(peer.any.sa_family, SOCK_STREAM | (count > 3 ? SOCK_NONBLOCK : 0), 0);
    memset(stack, 0xa5, SIZE);
    long start = milliseconds();
    raise(SIGUSR1);
    say("took", milliseconds() - start);
    int untouched = 0;
    while (untouched < SIZE && stack[untouched] == 0xa5)
        untouched++;
    say("used", SIZE - untouched);
    return 0;
}
