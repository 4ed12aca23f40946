/* adopted LEVEL NAME: the option of sockets that socket() did not make: a descriptor sent through a UNIX socket, an
 * inherited listener (descriptor 0) and what it accepts, before and after a hook has seen them. */
#include "probe.h"

static void send_descriptor(int through, int fd) {
    char control[CMSG_SPACE(sizeof fd)] = {0}, byte = 'x';
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (sendmsg(through, &message, 0) != 1)
        exit(1);
}

static int received_descriptor(int through) {
    int fd;
    char control[CMSG_SPACE(sizeof fd)], byte;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (recvmsg(through, &message, 0) != 1)
        exit(1);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

int main(int count, char **args) {
    (void)count;
    int level = atoi(args[1]), name = atoi(args[2]), pair[2];
    struct sockaddr_in a;
    socklen_t len = sizeof a;
    getsockname(0, (struct sockaddr *)&a, &len);

    /* Made behind the library's back, on a number that another kind of socket has just had. */
    int other = socket(AF_INET, SOCK_DGRAM, 0);
    close(other);
    int raw = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    send_descriptor(pair[0], raw);
    int passed = received_descriptor(pair[1]);
    say("passed_before", kernel_option(passed, level, name));
    connect(passed, (struct sockaddr *)&a, sizeof a);
    say("passed_after", kernel_option(passed, level, name));

    say("listener_before", kernel_option(0, level, name));
    int queued = accept(0, NULL, NULL); /* the connection above: it was there before any hook saw the listener */
    say("queued", kernel_option(queued, level, name));
    say("listener_after", kernel_option(0, level, name));
    int client = syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    syscall(SYS_connect, client, &a, sizeof a);
    int accepted = accept(0, NULL, NULL);
    say("accepted", kernel_option(accepted, level, name));

    /* A number that was TCP when the library last heard of it. */
    int tcp = socket(AF_INET, SOCK_STREAM, 0);
    syscall(SYS_close, tcp);
    int udp = syscall(SYS_socket, AF_INET, SOCK_DGRAM, 0);
    say("udp_has_the_number", udp == tcp);
    a.sin_port = 0;
    bind(udp, (struct sockaddr *)&a, sizeof a);
    say("udp_reuseaddr", kernel_option(udp, SOL_SOCKET, SO_REUSEADDR));
    return 0;
}
