/* host PLUGIN [IP PORT]: loads the plugin with RTLD_DEEPBIND, in all ways in which that can be done, and calls it.
 * host PLUGIN without: loads it without the flag. host PLUGIN threads: 20 threads load it 100 times each.
 * host PLUGIN refused: loads it twice, where nobody may make memory writable. */
#include "probe.h"
#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>

static const char *plugin;

static int (*function(void *library, const char *name))() {
    int (*found)() = dlsym(library, name);
    if (!found) {
        fprintf(stderr, "%s: %s\n", name, dlerror());
        exit(1);
    }
    return found;
}

static void *load(int flags) {
    void *library = dlopen(plugin, flags);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return library;
}

static void *loads(void *wrong) {
    for (int i = 0; i < 100; i++) {
        void *library = load(RTLD_LAZY | RTLD_DEEPBIND);
        if (function(library, "idle")() != 77)
            __atomic_add_fetch((int *)wrong, 1, __ATOMIC_RELAXED);
        dlclose(library);
    }
    return NULL;
}

/* mprotect(2) with PROT_WRITE gives EPERM from now on. */
static void refuse(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mprotect, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_WRITE, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        exit(1);
}

int main(int argc, char **argv) {
    plugin = argv[1];
    if (argc == 3 && !strcmp(argv[2], "without")) {
        say("idle", function(load(RTLD_NOW), "idle")());
        return 0;
    }
    if (argc == 3 && !strcmp(argv[2], "threads")) {
        static int wrong;
        pthread_t threads[20];
        for (int i = 0; i < 20; i++)
            pthread_create(&threads[i], NULL, loads, &wrong);
        for (int i = 0; i < 20; i++)
            pthread_join(threads[i], NULL);
        say("wrong", wrong);
        return 0;
    }
    if (argc == 3 && !strcmp(argv[2], "refused")) {
        refuse();
        load(RTLD_NOW | RTLD_DEEPBIND);
        say("idle", function(load(RTLD_NOW | RTLD_DEEPBIND), "idle")());
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        say("own", kernel_option(fd, IPPROTO_TCP, TCP_KEEPIDLE));
        return 0;
    }
    errno = 1234;
    void *library = load(RTLD_LAZY | RTLD_DEEPBIND);
    say("errno", errno);
    say("at_load", function(library, "idle_at_load")());
    say("lazy", function(library, "idle")());
    say("by_dlsym", function(library, "idle_by_dlsym")());
    say("finds_its_own", function(library, "loads")("libinner.so"));
    dlclose(library);
    library = load(RTLD_NOW | RTLD_DEEPBIND | RTLD_GLOBAL);
    say("again", function(library, "idle")());
    say("missing", dlopen("/nowhere.so", RTLD_NOW | RTLD_DEEPBIND) == NULL && dlerror() != NULL);
    if (argc == 4) {
        int error;
        say("took", function(library, "connecting")(argv[2], argv[3], &error));
        say("error", error);
    }
    return 0;
}
