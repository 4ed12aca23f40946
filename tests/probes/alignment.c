/* alignment: calls with the stack shifted by 0, 4, 8 and 12 bytes, as programs of old compilers have it on i386. Elsewhere there
 * is only the shift of 0. */
#include "probe.h"

typedef long word;

/* A function with five arguments. */
static word shifted(word shift, void *function, word a, word b, word c, word d, word e) {
#ifdef __i386__
    word call[] = {(word)function, shift, a, b, c, d, e}, *at = call, result;
    __asm__ volatile("mov %%esp, %%esi\n\tand $-16, %%esp\n\tsub 4(%%edx), %%esp\n\t"
                     "push 24(%%edx)\n\tpush 20(%%edx)\n\tpush 16(%%edx)\n\tpush 12(%%edx)\n\tpush 8(%%edx)\n\t"
                     "call *(%%edx)\n\tmov %%esi, %%esp"
                     : "=a"(result), "+d"(at)
                     :
                     : "esi", "ecx", "cc", "memory");
    return result;
#else
    (void)shift;
    return ((word(*)(word, word, word, word, word))function)(a, b, c, d, e);
#endif
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    socklen_t len;
    union address peer = address(argv[1], argv[2], &len);
#ifdef __i386__
    word last = 12;
#else
    word last = 0;
#endif
    for (word shift = 0; shift <= last; shift += 4) {
        int fd = (int)shifted(shift, (void *)socket, AF_INET, SOCK_STREAM, 0, 0, 0);
        int one = 1, idle = 0;
        socklen_t size = sizeof idle;
        shifted(shift, (void *)setsockopt, fd, SOL_SOCKET, SO_KEEPALIVE, (word)&one, sizeof one);
        int connected = (int)shifted(shift, (void *)connect, fd, (word)&peer, (word)len, 0, 0);
        shifted(shift, (void *)getsockopt, fd, IPPROTO_TCP, TCP_KEEPIDLE, (word)&idle, (word)&size);
        struct pollfd writable = {fd, POLLOUT, 0};
        int ready = (int)shifted(shift, (void *)poll, (word)&writable, 1, 100, 0, 0);
        word written = shifted(shift, (void *)write, fd, (word) "x", 1, 0, 0);
        shifted(shift, (void *)close, fd, 0, 0, 0, 0);
        printf("shift_%ld_connected=%d\nshift_%ld_idle=%d\nshift_%ld_ready=%d\nshift_%ld_written=%ld\n", shift, connected, shift,
               idle, shift, ready, shift, written);
    }
    fflush(stdout);
    shifted(last, (void *)exit, 0, 0, 0, 0, 0);
}
