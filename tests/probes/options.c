/* options LEVEL NAME...: each option of a new, a bound, a listening, a connecting and an accepted socket. */
#include "probe.h"

static void show(const char *socket, int fd, char **pairs) {
    for (; pairs[0] && pairs[1]; pairs += 2)
        printf("%s.%s.%s=%d\n", socket, pairs[0], pairs[1], kernel_option(fd, atoi(pairs[0]), atoi(pairs[1])));
}

int main(int count, char **pairs) {
    (void)count;
    socklen_t len;
    union address a = address("127.0.0.1", "0", &len);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    show("new", listener, pairs + 1);
    if (bind(listener, &a.any, len) != 0)
        return 1;
    show("bound", listener, pairs + 1);
    if (listen(listener, 5) != 0 || getsockname(listener, &a.any, &len) != 0)
        return 1;
    int client = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP);
    if (connect(client, &a.any, len) != 0)
        return 1;
    show("connected", client, pairs + 1);
    int accepted = accept(listener, NULL, NULL);
    show("accepted", accepted, pairs + 1);
    int unbound = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (unbound < 0 || listen(unbound, 5) != 0)
        return 1;
    show("unbound", unbound, pairs + 1);
    return 0;
}
