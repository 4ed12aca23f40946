/* plugin: a library that is loaded with RTLD_DEEPBIND: its calls go where its own lookup leads. */
#include "probe.h"
#include <dlfcn.h>

static int at_load = -1;

static int idle_of(int fd) {
    int value = kernel_option(fd, IPPROTO_TCP, TCP_KEEPIDLE);
    close(fd);
    return value;
}

__attribute__((constructor)) static void loaded(void) { at_load = idle_of(socket(AF_INET, SOCK_STREAM, 0)); }

/* TCP_KEEPIDLE of a socket made in the constructor, now, and through dlsym(3). */
int idle_at_load(void) { return at_load; }
int idle(void) { return idle_of(socket(AF_INET, SOCK_STREAM, 0)); }
int idle_by_dlsym(void) {
    int (*make)(int, int, int) = dlsym(RTLD_DEFAULT, "socket");
    return idle_of(make(AF_INET, SOCK_STREAM, 0));
}

/* How long a blocking connect takes, and how it ends. */
int connecting(const char *ip, const char *port, int *error) {
    socklen_t len;
    union address to = address(ip, port, &len);
    int fd = socket(to.any.sa_family, SOCK_STREAM, 0);
    long begun = milliseconds();
    *error = connect(fd, &to.any, len) == 0 ? 0 : errno;
    close(fd);
    return (int)(milliseconds() - begun);
}

/* Loads a library by its name alone: this one's RUNPATH says where it is. */
int loads(const char *name) { return dlopen(name, RTLD_NOW | RTLD_DEEPBIND) != NULL; }
