/* libFuzzer: the plan decoder. Whatever passes plan_check must be readable to its last byte. */
#include "read_all.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned char plan[65536];
    read_all(data, size);
    /* The same bytes behind a right header, so that the fuzzer need not find one. */
    if (size < 4 || size + PLAN_FIRST - 4 > sizeof plan)
        return 0;
    uint32_t total = (uint32_t)(size - 4 + PLAN_FIRST), version = PLAN_VERSION;
    memset(plan, 0, PLAN_FIRST);
    memcpy(plan, PLAN_MAGIC, 8);
    memcpy(plan + 8, &version, 4);
    memcpy(plan + 12, data, 4); /* the count of operations */
    memcpy(plan + 16, &total, 4);
    memcpy(plan + PLAN_FIRST, data + 4, size - 4);
    read_all(plan, total);
    return 0;
}
