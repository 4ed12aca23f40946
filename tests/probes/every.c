/* every MODE [IP HOLE-PORT]: every hook, each with its result and errno, and a connect to the hole.
 * plain; stack: in a thread with a stack of 64 KiB; memory: without another byte of address space; descriptors: without
 * another descriptor, which leaves only those calls that need none. */
#include "every.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { STACK = 64 * 1024 };

static int hole_fd = -1;
static union address hole;
static socklen_t hole_len;

static void to_the_hole(void) {
    if (hole_fd < 0)
        return;
    errno = UNTOUCHED;
    int timed_out = connect(hole_fd, &hole.any, hole_len) == -1 && errno == ETIMEDOUT;
    say("timed_out", timed_out);
}

static void *in_thread(void *arg) {
    every_hook();
    to_the_hole();
    return arg;
}

static void small_stack(void) {
    size_t guard = 4096, used = STACK;
    unsigned char *memory = mmap(NULL, guard + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *stack = memory + guard;
    mprotect(memory, guard, PROT_NONE);
    memset(stack, 0xa5, STACK);
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, STACK);
    if (pthread_create(&thread, &attributes, in_thread, NULL) || pthread_join(thread, NULL))
        exit(1);
    while (used > 0 && stack[STACK - used] == 0xa5)
        used--;
    if (hole_fd >= 0)
        say("stack_used", used);
}

static void no_memory(void) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_AS, &none);
    say("no_memory", mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    in_thread(NULL);
}

static void no_descriptor(void) {
    union address a = {.v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof a.v4;
    int value = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int blocking = socket(AF_INET, SOCK_STREAM, 0), nonblocking = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct rlimit few = {40, 40};
    setrlimit(RLIMIT_NOFILE, &few);
    while (dup(0) >= 0)
        continue;
    SHOW(socket(AF_INET, SOCK_STREAM, 0));
    SHOW(socket(AF_INET, SOCK_DGRAM, 0));
    SHOW(dup(listener));
    SHOW(dup2(listener, 40));
    SHOW(dup3(listener, 40, 0));
    SHOW(bind(listener, &a.any, len));
    SHOW(listen(listener, 5));
    getsockname(listener, &a.any, &len);
    SHOW(connect(blocking, &a.any, len));
    SHOW(connect(nonblocking, &a.any, len));
    struct pollfd p[41] = {{nonblocking, POLLOUT, 0}};
    SHOW(poll(p, 1, 3000));
    SHOW(poll(p, 41, 0)); /* more than there can be descriptors: EINVAL */
    SHOW(setsockopt(blocking, IPPROTO_TCP, TCP_KEEPIDLE, &value, sizeof value));
    SHOW(accept(listener, NULL, NULL));
    SHOW(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    SHOW(write(nonblocking, "x", 1));
    to_the_hole();
    SHOW(close(39));
    SHOW(accept(listener, NULL, NULL));
    SHOW(accept(listener, NULL, NULL));
    SHOW(close(39));
    SHOW(socket(AF_INET, SOCK_STREAM, 0));
}

int main(int count, char **args) {
    static char buffer[65536]; /* stdio has no memory to ask for */
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    if (count > 3) {
        hole = address(args[2], args[3], &hole_len);
        hole_fd = dup2(socket(AF_INET, SOCK_STREAM, 0), 30);
    }
    void (*mode)(void) = !strcmp(args[1], "stack")         ? small_stack
                         : !strcmp(args[1], "memory")      ? no_memory
                         : !strcmp(args[1], "descriptors") ? no_descriptor
                                                           : every_hook;
    mode();
    return 0;
}
