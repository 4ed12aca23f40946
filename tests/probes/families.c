/* families: every domain, type, flags and protocol that Linux knows, and some that it does not. A line for each domain
 * and type; in it, for each protocol, result:errno:SO_KEEPALIVE where that differs from the protocol before. */
#include "probe.h"
#include <limits.h>
#include <stdbool.h>

/* 0 to 20 and these; 262 is IPPROTO_MPTCP. */
static const int more[] = {22, 27, 33, 41, 47, 50, 58, 89, 94, 103, 108, 115, 132, 136, 137, 143, 254, 255, 256, 262, -1};
static const int flags[] = {0, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_CLOEXEC | SOCK_NONBLOCK, 1 << 20, INT_MIN};
enum { PROTOCOLS = 21 + sizeof more / sizeof *more, FLAGS = sizeof flags / sizeof *flags };

/* TCP is not asked for the option: it may be set there, and nowhere else. */
static bool is_tcp(int domain, int type, int protocol) {
    return (domain == AF_INET || domain == AF_INET6) && (type & 0xf) == SOCK_STREAM &&
           (protocol == 0 || protocol == IPPROTO_TCP || protocol == 262);
}

/* Appends result:errno:option to text; 0, or the errno. */
static int try(int domain, int type, int protocol, char *text, size_t room) {
    errno = 4711;
    int fd = socket(domain, type, protocol), error = errno, kept = -1;
    if (fd >= 0 && !is_tcp(domain, type, protocol))
        kept = kernel_option(fd, SOL_SOCKET, SO_KEEPALIVE);
    snprintf(text, room, " %d:%d:%d", fd, error, kept);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? error : 0;
}

int main(void) {
    for (int domain = -1; domain <= 46; domain++)
        for (int type = 0; type <= 15; type++) {
            char last[300] = "";
            printf("domain %d type %d=", domain, type);
            for (int p = 0; p < PROTOCOLS; p++) {
                char now[300] = "";
                int protocol = p <= 20 ? p : more[p - 21], error = 0;
                /* A missing module is looked for at each refusal, and a packet socket waits for RCU at its end: only
                 * what has succeeded is tried with every flag, and those two with few protocols. */
                for (int f = 0; f < FLAGS && (f == 0 || error == 0 || p == 0); f++)
                    error = try(domain, type | flags[f], protocol, now + strlen(now), sizeof now - strlen(now));
                if (strcmp(now, last))
                    printf("  %d%s", protocol, now);
                strcpy(last, now);
                bool unknown = strstr(now, ":97:") && protocol == 6;
                bool packet = (domain == AF_PACKET || type == SOCK_PACKET) && protocol == 3;
                if (unknown || packet)
                    break;
            }
            printf("\n");
        }
    return 0;
}
