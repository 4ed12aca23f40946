/* environment PROGRAM ENTRY...: runs the program with entries behind the environment's own; any text can be one. */
#include "probe.h"

extern char **environ;

int main(int count, char **args) {
    int own = 0;
    while (environ[own])
        own++;
    char **entries = calloc(own + count, sizeof *entries);
    if (!entries)
        return 1;
    memcpy(entries, environ, own * sizeof *entries);
    memcpy(entries + own, args + 2, (count - 2) * sizeof *entries);
    execve(args[1], (char *[]){args[1], NULL}, entries);
    return 1;
}
