/* A library that lets no program start. */
__attribute__((constructor)) static void crash(void) {
    __builtin_trap();
}
