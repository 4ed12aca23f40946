#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* client HOST PORT: connects, and waits for the first byte. */
int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2])), .sin_addr.s_addr = inet_addr(argv[1])};
    int s = socket(AF_INET, SOCK_STREAM, 0);
    char byte;
    if (connect(s, (struct sockaddr *)&peer, sizeof peer) != 0 || read(s, &byte, 1) < 0) {
        perror(argv[0]);
        return 1;
    }
}
