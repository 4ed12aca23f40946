/* unwind IP PORT: pthread_cancel of a thread in connect, in a program built with -fexceptions as C++ programs are: below
 * the library lie frames with something to clean up, in the order inner, outer. */
#include "probe.h"
#include <pthread.h>

static int fd, order;
static union address peer;
static socklen_t len;

struct frame {
    const char *name;
};

static void leave(struct frame *frame) {
    say(frame->name, ++order);
}

static __attribute__((noinline)) int inner(void) {
    __attribute__((cleanup(leave))) struct frame frame = {"inner"};
    return connect(fd, &peer.any, len);
}

static void *outer(void *arg) {
    __attribute__((cleanup(leave))) struct frame frame = {"outer"};
    int r = inner();
    say("returned", r);
    return arg;
}

int main(int count, char **args) {
    (void)count;
    peer = address(args[1], args[2], &len);
    fd = socket(peer.any.sa_family, SOCK_STREAM, 0);
    int before = fcntl(fd, F_GETFL);
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, outer, NULL);
    usleep(200000);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    say("cancelled", result == PTHREAD_CANCELED);
    say("flags_kept", fcntl(fd, F_GETFL) == before);
    return 0;
}
