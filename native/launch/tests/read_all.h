/* Checks a plan and, when it is good, reads every field of it. */
#ifndef MASU_READ_ALL_H
#define MASU_READ_ALL_H

#include "launch.h"

static volatile unsigned char read_all_sink;

static inline int read_all(const unsigned char *data, size_t size)
{
    struct plan plan;
    struct masu_error err;
    if (plan_check(&plan, data, size, &err) < 0)
        return -1;
    size_t offset = PLAN_FIRST;
    for (uint32_t index = 0; index < plan.count; index++) {
        struct operation op;
        plan_read(&plan, &offset, index, &op);
        const char *kinds = op_schemas[op.code].fields;
        for (unsigned i = 0; kinds[i] != '\0'; i++) {
            for (uint32_t at = 0; at < op.field[i].length; at++)
                read_all_sink = (unsigned char)op.field[i].data[at];
            if (kinds[i] == 's' && strlen(op.field[i].data) + 1 != op.field[i].length)
                __builtin_trap();
            if (kinds[i] == 'l') {
                struct list list = list_of(&op, i);
                for (const char *text; (text = list_next(&list)) != NULL;)
                    read_all_sink = (unsigned char)strlen(text);
            }
        }
    }
    if (offset != size)
        __builtin_trap();
    return 0;
}

#endif
