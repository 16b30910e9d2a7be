/* What a fuzzer says over a SOCK_SEQPACKET: u8 flags, u16 length, that many bytes, and so on; then it hangs up. */
#ifndef MASU_PACKETS_H
#define MASU_PACKETS_H

#include "launch.h"

#include <stdlib.h>
#include <sys/socket.h>

#define PACKET_WITH_FD 1
#define PACKETS_LIMIT 40 /* fewer than a socket queues (net.unix.max_dgram_qlen does not count here: bytes do) */

static inline void open_pair(int ends[2])
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        abort();
}

/* Sends one packet and moves on; false at the end. */
static inline bool say(int socket, const uint8_t **data, size_t *size)
{
    if (*size < 3)
        return false;
    size_t length = (size_t)(*data)[1] | (size_t)(*data)[2] << 8;
    bool with_fd = ((*data)[0] & PACKET_WITH_FD) != 0;
    *data += 3;
    *size -= 3;
    if (length > *size)
        length = *size;
    if (length > 0) /* an empty packet cannot be told from the end */
        send_with_fd(socket, *data, length, with_fd ? socket : -1);
    *data += length;
    *size -= length;
    return true;
}

#endif
