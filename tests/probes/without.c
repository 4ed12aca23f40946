/* without CALL ARGUMENT ERRNO PROGRAM...: runs the program on a kernel that answers setsockopt or socket, with this third
 * argument, by an error (seccomp(2)): an option that an older kernel does not know, a protocol that it does not have. */
#include "probe.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

int main(int count, char **args) {
    if (count < 5)
        return 2;
    long call = strcmp(args[1], "socket") ? SYS_setsockopt : SYS_socket;
    unsigned argument = atoi(args[2]), error = atoi(args[3]);
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])), /* the lower half: little-endian */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, argument, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof program / sizeof *program, program};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) {
        say("no_filter", errno);
        return 0;
    }
    execvp(args[4], args + 4);
    return 127;
}
