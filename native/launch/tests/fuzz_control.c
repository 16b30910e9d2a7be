/* libFuzzer: what the host answers (control_answer), and what stage and init tell their monitor (receive_with_fd). */
#include "packets.h"

static volatile unsigned char sink;

static void check_answer(const struct launch *launch, int answer, const struct masu_error *err)
{
    if (answer < 0 && (err->number <= 0 || memchr(err->detail, '\0', sizeof err->detail) == NULL))
        abort();
    if (answer > 0 && launch->payload_length > PAYLOAD_LIMIT)
        abort();
    for (size_t i = 0; answer > 0 && i < launch->payload_length; i++)
        sink = control_payload[16 + i];
}

static void check_told(int socket)
{
    unsigned char message[5];
    int fd;
    long count = receive_with_fd(socket, message, sizeof message, &fd);
    if (count > (long)sizeof message || (count <= 0 && fd >= 0))
        abort();
    for (long i = 0; i < count; i++)
        sink = message[i];
    if (fd >= 0 && sys_close(fd) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct launch launch;
    struct masu_error err;
    int control[2], told[2];
    open_pair(control);
    open_pair(told);
    launch = (struct launch){.control = control[0], .told = -1, .monitor = -1, .root = -1, .procfs = -1, .empty = -1};
    for (int i = 0; i < PACKETS_LIMIT; i++) {
        const uint8_t *same = data;
        size_t left = size;
        say(told[1], &same, &left);
        check_told(told[0]);
        if (!say(control[1], &data, &size))
            break;
        err = (struct masu_error){.number = 0};
        check_answer(&launch, control_answer(&launch, &err), &err);
    }
    sys_close(control[1]);
    sys_close(told[1]);
    if (control_answer(&launch, &err) > 0)
        abort(); /* after it has hung up */
    check_told(told[0]);
    control_close(&launch);
    if (control_answer(&launch, &err) >= 0)
        abort();
    sys_close(told[0]);
    return 0;
}
