/* secure: whether this is secure execution, whether the library is mapped, and how a new socket is. */
#include "probe.h"
#include <sys/auxv.h>

int main(void) {
    char line[4096];
    int mapped = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        mapped |= strstr(line, "/libtcptune.so") != NULL;
    say("secure", getauxval(AT_SECURE));
    say("mapped", mapped);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    say("keepalive", kernel_option(fd, SOL_SOCKET, SO_KEEPALIVE));
    say("idle", kernel_option(fd, IPPROTO_TCP, TCP_KEEPIDLE));
    return 0;
}
