/* late: a library preloaded after ours, which looks for libc's function only when it is called, as many do. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

int socket(int domain, int type, int protocol) {
    static int depth;
    if (++depth > 5)
        abort(); /* it has found itself */
    int (*real)(int, int, int) = dlsym(RTLD_NEXT, "socket");
    int fd = real(domain, type, protocol);
    depth--;
    return fd;
}
