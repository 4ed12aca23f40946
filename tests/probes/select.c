/* select: what select(2) leaves of the time of a wait that ends with nothing, three times with the same timeval. */
#include "probe.h"
#include <sys/select.h>

int main(void) {
    int ends[2];
    struct timeval time = {0, 50000};
    if (pipe(ends) != 0)
        return 3;
    for (int i = 0; i < 3; i++) {
        fd_set read;
        FD_ZERO(&read);
        FD_SET(ends[0], &read);
        if (select(ends[0] + 1, &read, NULL, NULL, &time) != 0)
            return 4;
        printf("left%d=%ld\n", i, (long)time.tv_usec);
    }
    return 0;
}
