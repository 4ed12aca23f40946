/* signals MODE IP PORT [LIVE-PORT]: a blocking connect to a black hole, disturbed 200 ms after it began. MODE is words:
 * restart: SIGUSR1 arrives, with a handler with SA_RESTART; interrupt: without; ignore: with SIG_IGN;
 * both: another signal, which does not arrive, has a handler of the other kind;
 * storm: 10,000 a second until the end; quiet: none is sent by the probe;
 * stop: SIGSTOP, and SIGCONT after 400 ms; alarm: the signal is SIGALRM, of alarm(1);
 * jump: the handler leaves by siglongjmp; nested: it connects to LIVE-PORT, and is refused at port 1;
 * altstack: it runs on a stack of its own; inframe: which lies in main's frame;
 * seteuid: no signal but libc's own, with which it tells every thread of seteuid(2);
 * cancel: pthread_cancel; async: of a thread that is cancelled at once, not at the next cancellation point. */
#include "probe.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/prctl.h>

static const char *mode, *live;
static volatile sig_atomic_t handled, ended, nested_wrong;
static int fd, cleaned;
static long start; /* of whatever disturbs, just before the connect */
static union address peer;
static socklen_t len;
static sigjmp_buf place;
static pthread_t waiting;

static int is(const char *word) {
    return strstr(mode, word) != NULL;
}

/* What every connect of a program's own handler should give. */
static void nested(const char *port, int error) {
    socklen_t l;
    union address a = address("127.0.0.1", port, &l);
    int other = socket(AF_INET, SOCK_STREAM, 0), before = fcntl(other, F_GETFL);
    errno = 0;
    connect(other, &a.any, l);
    nested_wrong += errno != error || fcntl(other, F_GETFL) != before || close(other);
}

static void handler(int signal) {
    int error = errno;
    (void)signal;
    handled++;
    if (is("nested")) {
        nested(live, 0);
        nested("1", ECONNREFUSED);
    }
    if (is("jump"))
        siglongjmp(place, 1);
    errno = error;
}

static void clean(void *arg) {
    (void)arg;
    cleaned = 1;
}

static void *body(void *arg) {
    pthread_cleanup_push(clean, arg);
    if (is("async"))
        pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    int r = connect(fd, &peer.any, len);
    int error = errno;
    ended = 1;
    say("took", milliseconds() - start);
    say("result", r);
    say("errno", error);
    pthread_cleanup_pop(0);
    return NULL;
}

static void *disturb(void *arg) {
    usleep(200000);
    long sent = 0;
    struct timespec next;
    prctl(PR_SET_TIMERSLACK, 1);
    clock_gettime(CLOCK_MONOTONIC, &next);
    if (is("seteuid"))
        return seteuid(geteuid()) ? NULL : arg;
    do {
        pthread_kill(waiting, SIGUSR1);
        sent++;
        next.tv_nsec += 100000;
        if (next.tv_nsec >= 1000000000) {
            next.tv_nsec -= 1000000000;
            next.tv_sec++;
        }
        if (is("storm")) /* to a schedule: what was late is caught up on */
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    } while (is("storm") && !ended);
    say("sent", sent);
    return arg;
}

static void stop_and_continue(void) {
    if (fork() == 0) {
        usleep(200000);
        kill(getppid(), SIGSTOP);
        usleep(400000);
        kill(getppid(), SIGCONT);
        _exit(0);
    }
}

static void handlers(char *room) {
    struct sigaction action = {.sa_handler = handler}, other_kind = action;
    (is("restart") ? &action : &other_kind)->sa_flags = SA_RESTART;
    if (is("altstack")) {
        stack_t own = {.ss_sp = is("inframe") ? room : malloc(65536), .ss_size = 65536};
        sigaltstack(&own, NULL);
        action.sa_flags |= SA_ONSTACK;
    }
    if (is("ignore"))
        action.sa_handler = SIG_IGN;
    sigaction(is("alarm") ? SIGALRM : SIGUSR1, &action, NULL);
    if (is("both"))
        sigaction(SIGUSR2, &other_kind, NULL);
}

static void cancel(void) {
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, body, NULL);
    usleep(200000);
    start = milliseconds();
    pthread_cancel(thread);
    pthread_join(thread, &result);
    say("took", milliseconds() - start);
    say("cancelled", result == PTHREAD_CANCELED);
    say("cleaned", cleaned);
}

int main(int count, char **args) {
    char room[65536];
    mode = args[1];
    live = count > 4 ? args[4] : "";
    peer = address(args[2], args[3], &len);
    fd = socket(peer.any.sa_family, SOCK_STREAM, 0);
    int before = fcntl(fd, F_GETFL);
    waiting = pthread_self();
    sigset_t mask, mask_after; /* libc fills only the kernel's 64 bits of them */
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    pthread_t other;
    int sends = !is("cancel") && !is("stop") && !is("alarm") && !is("quiet");
    if (!is("cancel") || is("both"))
        handlers(room);
    start = milliseconds();
    if (is("stop"))
        stop_and_continue();
    if (is("alarm"))
        alarm(1);
    if (sends)
        pthread_create(&other, NULL, disturb, NULL);
    if (is("cancel"))
        cancel();
    else if (sigsetjmp(place, 1) == 0)
        body(NULL);
    if (sends)
        pthread_join(other, NULL);
    pthread_sigmask(SIG_BLOCK, NULL, &mask_after);
    say("handled", handled);
    say("nested_wrong", nested_wrong);
    say("mask_kept", memcmp(&mask, &mask_after, 8) == 0);
    say("flags_kept", fcntl(fd, F_GETFL) == before);
    if (is("jump")) {
        peer = address(args[2], live, &len);
        say("again", connect(socket(AF_INET, SOCK_STREAM, 0), &peer.any, len));
    }
    return 0;
}
