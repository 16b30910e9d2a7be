/* libFuzzer: what a brain may say of a process that it wants, in the message or in a file. */
#include "../front.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct spawn spawn;
    int fds[8] = {100, 101, 102, 103, 104, 105, 106, -1};
    if (size < HEADER_LENGTH || size > MESSAGE_LIMIT)
        return 0;
    /* Its own copy, so that a look beyond its end is found out. */
    unsigned char *message = malloc(size);
    if (message == NULL)
        abort();
    memcpy(message, data, size);
    fds[7] = (int)sys(__NR_memfd_create, "strings", 1);
    sys_write(fds[7], data, size);
    if (parse_spawn(&spawn, message, size, fds, 8) == 0) {
        size_t length = strlen(spawn.executable) + strlen(spawn.directory);
        for (const char **at = spawn.argv; *at != NULL; at++)
            length += strlen(*at);
        for (const char **at = spawn.envp; *at != NULL; at++)
            length += strlen(*at);
        if (length > size || spawn.argv[0] == NULL || spawn.kept > 8)
            abort();
        for (unsigned i = 0; i < spawn.kept; i++) {
            if (spawn.to[i] < 3)
                abort();
        }
    }
    release_spawn(&spawn);
    sys_close(fds[7]);
    free(message);
    return 0;
}
