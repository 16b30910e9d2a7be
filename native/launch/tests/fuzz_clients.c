/* libFuzzer: what clients say to a monitor: attach, stdin, sizes, signals, and hang-ups in the middle. */
#include "monitor.h"
#include "packets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct monitor monitor;
    static struct launch launch;
    int ends[2], input[2];
    monitor = (struct monitor){.launch = &launch, .listener = -1, .signals = -1, .inner = -1, .pidfd = -1,
                               .master = -1, .stdin_source = -1, .stdin_keep = -1, .oom = -1, .oom_watch = -1};
    monitor.flags = size > 0 ? data[size - 1] : 0;
    for (struct client *client = monitor.clients; client < monitor.clients + CLIENTS_LIMIT; client++)
        client->fd = -1;
    open_pair(ends);
    if (sys_pipe(input, O_NONBLOCK) != 0)
        abort();
    monitor.stdin_fd = input[1];
    struct client *client = &monitor.clients[0];
    client->fd = ends[0];
    for (int i = 0; i < PACKETS_LIMIT && say(ends[1], &data, &size); i++) {
        client_hear(&monitor, client, 4);
        if (monitor.stdin_length > PACKET_LIMIT || monitor.stdin_at > monitor.stdin_length)
            abort();
        char chunk[4096];
        if ((i & 3) == 3) /* the program reads now and then */
            sys_read(input[0], chunk, sizeof chunk);
        stdin_flush(&monitor);
    }
    sys_close(ends[1]);
    while (client->fd >= 0 && client_may_talk(&monitor, client))
        client_hear(&monitor, client, 4);
    client_drop(&monitor, client);
    if (monitor.stdin_fd >= 0)
        sys_close(monitor.stdin_fd);
    sys_close(input[0]);
    return 0;
}
