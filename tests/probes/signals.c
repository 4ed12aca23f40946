/* signals MODE IP PORT: a blocking connect to a black hole while a signal arrives 200 ms after it began.
 * restart: handler with SA_RESTART; interrupt: without; ignore: SIG_IGN; both-…: another signal, which does not arrive,
 * has a handler of the other kind; cancel: pthread_cancel instead. */
#include "probe.h"
#include <pthread.h>
#include <signal.h>

static volatile sig_atomic_t handled;
static int fd;
static union address peer;
static socklen_t len;
static volatile int cleaned;

static void handler(int signal) {
    (void)signal;
    handled++;
}

static void clean(void *arg) {
    (void)arg;
    cleaned = 1;
}

static void *body(void *arg) {
    pthread_cleanup_push(clean, arg);
    long start = milliseconds();
    int r = connect(fd, &peer.any, len);
    int error = errno;
    say("took", milliseconds() - start);
    say("result", r);
    say("errno", error);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *disturb(void *thread) {
    usleep(200000);
    pthread_kill(*(pthread_t *)thread, SIGUSR1);
    return NULL;
}

int main(int count, char **args) {
    (void)count;
    peer = address(args[2], args[3], &len);
    fd = socket(peer.any.sa_family, SOCK_STREAM, 0);
    int before = fcntl(fd, F_GETFL);
    if (!strcmp(args[1], "cancel")) {
        pthread_t thread;
        void *result;
        pthread_create(&thread, NULL, body, NULL);
        usleep(200000);
        long start = milliseconds();
        pthread_cancel(thread);
        pthread_join(thread, &result);
        say("took", milliseconds() - start);
        say("cancelled", result == PTHREAD_CANCELED);
        say("cleaned", cleaned);
    } else {
        struct sigaction action = {.sa_handler = handler}, other_kind = action;
        if (strstr(args[1], "restart"))
            action.sa_flags = SA_RESTART;
        else
            other_kind.sa_flags = SA_RESTART;
        if (!strcmp(args[1], "ignore"))
            action.sa_handler = SIG_IGN;
        sigaction(SIGUSR1, &action, NULL);
        if (strstr(args[1], "both"))
            sigaction(SIGUSR2, &other_kind, NULL);
        sigset_t mask, mask_after; /* libc fills only the kernel's 64 bits of them */
        pthread_sigmask(SIG_BLOCK, NULL, &mask);
        pthread_t self = pthread_self(), other;
        pthread_create(&other, NULL, disturb, &self);
        body(NULL);
        pthread_join(other, NULL);
        say("handled", handled);
        pthread_sigmask(SIG_BLOCK, NULL, &mask_after);
        say("mask_kept", memcmp(&mask, &mask_after, 8) == 0);
    }
    say("flags_kept", fcntl(fd, F_GETFL) == before);
    return 0;
}
