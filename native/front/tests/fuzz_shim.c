/* libFuzzer: anything in the place of a message. */
#include "../shim.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size + 1); /* its own, so that a look beyond its end is found out */
    if (copy == NULL)
        abort();
    memcpy(copy, data, size);
    struct text rest = {copy, size};
    struct proto_field field;
    size_t before = size;
    unsigned sum = 0;
    while (next_field(&rest, &field)) {
        if (rest.length >= before || rest.at != copy + (size - rest.length))
            abort();
        before = rest.length;
        for (size_t i = 0; i < field.text.length; i++)
            sum += (unsigned char)field.text.at[i];
    }
    free(copy);
    return sum == 1 ? -1 : 0;
}
