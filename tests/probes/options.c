/* options LEVEL NAME...: each option of a new, a bound, a listening, a connecting and an accepted socket. */
#include "probe.h"

/* As bytes: not every option is an int. */
static void show(const char *socket, int fd, char **pairs) {
    for (; pairs[0] && pairs[1]; pairs += 2) {
        unsigned char value[16] = {0};
        socklen_t len = sizeof value;
        if (syscall(SYS_getsockopt, fd, atoi(pairs[0]), atoi(pairs[1]), value, &len) != 0)
            continue;
        printf("%s.%s.%s=", socket, pairs[0], pairs[1]);
        for (size_t i = 0; i < sizeof value; i++)
            printf("%02x", value[i]);
        putchar('\n');
    }
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
