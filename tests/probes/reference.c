/* reference: hooks that forward to what dlsym finds behind them, as ours do. */
#define _GNU_SOURCE
#include <dlfcn.h>

#define HOOK(name)                                                                                                     \
    int name(long a, long b, long c, long d) {                                                                         \
        int (*real)(long, long, long, long);                                                                           \
        *(void **)&real = dlsym(RTLD_NEXT, #name);                                                                     \
        return real(a, b, c, d);                                                                                       \
    }

HOOK(getpeername)
HOOK(listen)
HOOK(dup3)
HOOK(accept4)
