/* wrapper: a second preloaded library that also interposes connect, and calls other hooks meanwhile. */
#include "probe.h"
#include <dlfcn.h>

static int calls, depth, deepest;

int connect(int fd, const struct sockaddr *addr, socklen_t len) {
    static int (*real)(int, const struct sockaddr *, socklen_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "connect");
    struct pollfd p = {-1, 0, 0};
    int type, error = errno;
    socklen_t type_len = sizeof type;
    calls++;
    if (++depth > deepest)
        deepest = depth;
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len);
    close(socket(AF_INET, SOCK_STREAM, 0));
    poll(&p, 1, 0);
    errno = error;
    int r = real(fd, addr, len);
    depth--;
    return r;
}

__attribute__((destructor)) static void end(void) {
    say("wrapped", calls);
    say("deepest", deepest);
}
