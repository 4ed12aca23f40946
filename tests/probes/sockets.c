/* sockets KIND: a socket's life, for counting its system calls. tcp, udp, unix */
#include "probe.h"
#include <sys/un.h>

int main(int count, char **args) {
    (void)count;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t len = sizeof a, name_len = sizeof(sa_family_t); /* unix(7): autobind */
    int one = 1;
    write(2, "BEGIN\n", 6);
    if (!strcmp(args[1], "tcp")) {
        int fd = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
        bind(fd, (struct sockaddr *)&a, sizeof a);
        listen(fd, 1);
        getsockname(fd, (struct sockaddr *)&a, &len);
        connect(client, (struct sockaddr *)&a, sizeof a);
        int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        write(client, "x", 1);
        read(accepted, &one, 1);
        close(client);
    } else if (!strcmp(args[1], "udp")) {
        int fd = socket(AF_INET, SOCK_DGRAM, 0), other = socket(AF_INET, SOCK_DGRAM, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        bind(fd, (struct sockaddr *)&a, sizeof a);
        getsockname(fd, (struct sockaddr *)&a, &len);
        connect(other, (struct sockaddr *)&a, sizeof a);
        send(other, "x", 1, 0);
        recv(fd, &one, 1, 0);
        close(other);
    } else {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
        bind(fd, (struct sockaddr *)&name, name_len);
        listen(fd, 1);
        len = sizeof name;
        getsockname(fd, (struct sockaddr *)&name, &len);
        connect(client, (struct sockaddr *)&name, len);
        int accepted = accept(fd, NULL, NULL);
        write(client, "x", 1);
        read(accepted, &one, 1);
        close(client);
    }
    write(2, "END\n", 4);
    return 0;
}
