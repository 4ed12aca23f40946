/* A connect that nobody answers: a listener whose queue is full drops the SYN. Prints milliseconds until ETIMEDOUT; or,
 * with arguments, runs them as a command, with its port as one more. */
#include "probe.h"

int main(int argc, char **argv) {
    socklen_t len;
    union address a = address("127.0.0.1", "0", &len);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    alarm(20);
    if (bind(listener, &a.any, len) != 0 || listen(listener, 0) != 0 || getsockname(listener, &a.any, &len) != 0)
        return 1;
    for (int i = 0; i < 2; i++) /* not waited for, and by no hook */
        syscall(SYS_connect, syscall(SYS_socket, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), &a.any, len);
    if (argc > 1) {
        char port[8], *command[argc + 1];
        snprintf(port, sizeof port, "%d", ntohs(a.v4.sin_port));
        memcpy(command, argv + 1, (argc - 1) * sizeof *command);
        command[argc - 1] = port;
        command[argc] = NULL;
        return execvp(command[0], command);
    }
    long start = milliseconds();
    int connected = connect(socket(AF_INET, SOCK_STREAM, 0), &a.any, len), error = errno;
    if (connected == 0 || error != ETIMEDOUT)
        return printf("connect gives %d, errno %d", connected, error), 1;
    printf("%ld\n", milliseconds() - start);
    return 0;
}
