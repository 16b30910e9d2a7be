/* What the unit tests share. They run under ASan and UBSan. */
#ifndef MASU_CHECK_H
#define MASU_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#include "launch.h"

#define CHECK(condition)                                                                    \
    do {                                                                                    \
        if (!(condition)) {                                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                 \
            exit(1);                                                                        \
        }                                                                                   \
    } while (0)

#define CHECK_TEXT(found, wanted)                                                           \
    do {                                                                                    \
        const char *found_ = (found), *wanted_ = (wanted);                                  \
        if (strcmp(found_, wanted_) != 0) {                                                 \
            fprintf(stderr, "%s:%d: \"%s\" instead of \"%s\"\n", __FILE__, __LINE__, found_, wanted_); \
            exit(1);                                                                        \
        }                                                                                   \
    } while (0)

#endif
