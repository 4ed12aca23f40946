/* connect IP PORT [LIVE-PORT]: a blocking connect; what it gave, what it left; then the same descriptor to LIVE-PORT. */
#include "probe.h"

int main(int count, char **args) {
    socklen_t len;
    union address a = address(args[1], args[2], &len);
    int fd = socket(a.any.sa_family, SOCK_STREAM, 0);
    /* Unusual flags, to see that all of them are put back. */
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_APPEND);
    say("flags_before", fcntl(fd, F_GETFL));
    errno = 4711;
    long start = milliseconds();
    int r = connect(fd, &a.any, len);
    int error = errno;
    say("took", milliseconds() - start);
    say("result", r);
    say("errno", error);
    say("flags_after", fcntl(fd, F_GETFL));
    say("so_error", kernel_option(fd, SOL_SOCKET, SO_ERROR));
    if (count > 3) {
        a = address(args[1], args[3], &len);
        say("again", connect(fd, &a.any, len) == 0 ? 0 : errno);
        say("flags_again", fcntl(fd, F_GETFL));
        say("again_after", connect(fd, &a.any, len) == 0 ? 0 : errno);
        sleep(3); /* time in which a black hole would see another SYN */
    }
    return 0;
}
