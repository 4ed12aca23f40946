/* behind: a library preloaded after ours, with the kinds of symbols that a lookup meets. behind.map gives the versions. */
#include <stddef.h>

/* The function is what the resolver gives. */
static int resolved(void) { return 1001; }
static int (*resolver(void))(void) { return resolved; }
int getpeername(void) __attribute__((ifunc("resolver")));

/* Two versions, of which programs that are linked now get the second. */
__asm__(".symver old_listen, listen@OLD");
__asm__(".symver new_listen, listen@@NEW");
int old_listen(void) { return -1002; }
int new_listen(void) { return 1002; }

/* Only a version that nothing linked now may get: libc's is the right one. */
__asm__(".symver old_dup3, dup3@OLD");
int old_dup3(void) { return -1003; }

/* Weak, as many of libc's are. */
__attribute__((weak)) int accept4(void) { return 1004; }

/* Not functions, or not defined here. */
int bind = 5;
extern int socket(int, int, int);
int (*undefined(void))(int, int, int) { return socket; }
