/* libFuzzer: any bytes as a layer. The reader must end, stay inside its bounds, and give entries that keep the
 * promises tree.c relies on. */
#include "../unpack.h"

#include <assert.h>
#include <string.h>

struct input { const uint8_t *bytes; size_t length; };

static ssize_t read_input(void *context, void *buffer, size_t size)
{
    struct input *input = context;
    size_t n = input->length < size ? input->length : size;
    if (n)
        memcpy(buffer, input->bytes, n);
    input->bytes += n;
    input->length -= n;
    return (ssize_t)n;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static struct entry entry;
    static struct error err;
    struct input input = {bytes, length};
    struct tar tar;
    int more;
    err = (struct error){0};
    /* Checksums would stop nearly every input at its first block: those of what looks like a header are repaired. */
    static uint8_t copy[1 << 16];
    if (length > sizeof copy)
        return 0;
    if (length > 0)
        memcpy(copy, bytes, length);
    for (size_t at = 0; at + 512 <= length; at += 512) {
        unsigned sum = 0;
        if (memcmp(copy + at + 257, "ustar", 5) != 0)
            continue;
        memset(copy + at + 148, ' ', 8);
        for (size_t i = 0; i < 512; i++)
            sum += copy[at + i];
        for (int i = 5; i >= 0; i--, sum >>= 3)
            copy[at + 148 + (size_t)i] = (uint8_t)('0' + (sum & 7));
    }
    input.bytes = copy;
    if (tar_open(&tar, read_input, &input, 4096, &err) < 0)
        return 0;
    while ((more = tar_next(&tar, &entry, &err)) > 0) {
        const void *data;
        ssize_t n;
        int64_t total = 0;
        assert(entry.path_length <= MAX_PATH && strlen(entry.path) == entry.path_length);
        assert(entry.link_length <= MAX_PATH && strlen(entry.link) == entry.link_length);
        assert(entry.size >= 0 && entry.data >= 0 && entry.type >= '0' && entry.type <= '6');
        assert(entry.uid != 0xffffffff && entry.gid != 0xffffffff && entry.mode <= 07777);
        size_t cleaned = clean_path(entry.path, entry.path_length);
        assert(cleaned <= entry.path_length && entry.path[0] != '/' && strlen(entry.path) == cleaned);
        assert(strcmp(entry.path, "..") != 0 && strncmp(entry.path, "../", 3) != 0 && !strstr(entry.path, "/../"));
        for (size_t i = 0; i < entry.xattr_count; i++)
            assert(entry.xattrs[i].name_length <= MAX_XATTR_NAME && entry.xattrs[i].value_length <= MAX_XATTR_VALUE);
        while ((n = tar_data(&tar, &data, 1000, &err)) > 0)
            total += n;
        if (n < 0)
            break;
        assert(total == entry.data);
    }
    if (more < 0)
        assert(err.kind != 0);
    tar_close(&tar);
    return 0;
}
