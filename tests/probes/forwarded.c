/* forwarded: what calls of a few hooks come to. */
#include "probe.h"

int main(void) {
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof a;
    say("getpeername", getpeername(-1, (struct sockaddr *)&a, &len));
    say("listen", listen(-1, 5));
    say("dup3", dup3(-1, -1, 0));
    say("accept4", accept4(-1, NULL, NULL, 0));
    say("bind", bind(-1, (struct sockaddr *)&a, len));
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    say("socket", fd >= 0);
    errno = 0;
    say("recv", recv(-1, &a, sizeof a, 0));
    say("errno", errno);
    return 0;
}
