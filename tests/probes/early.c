/* early: a second preloaded library. Its constructor calls every hook, and makes a socket that its destructor uses. */
#include "every.h"

static int kept;

__attribute__((constructor)) static void begin(void) {
    kept = socket(AF_INET, SOCK_STREAM, 0);
    say("idle_in_constructor", kernel_option(kept, IPPROTO_TCP, TCP_KEEPIDLE));
    every_hook();
}

__attribute__((destructor)) static void end(void) {
    listen(kept, 1);
    say("idle_in_destructor", kernel_option(kept, IPPROTO_TCP, TCP_KEEPIDLE));
    every_hook();
}
