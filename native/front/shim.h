/* What shim.c reads of protobuf. */
#ifndef MASU_SHIM_H
#define MASU_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
    const char *at;
    size_t length;
};

struct proto_field {
    uint64_t number, value; /* `value` of a varint */
    unsigned type;
    struct text text; /* of all others */
};

/* The next field of a message, taken from `rest`; false at the end, and before what is no field: `rest` is not empty then. */
bool next_field(struct text *rest, struct proto_field *field);

#endif
