/* The plan's wire format (src/masu/plan/encode.py): everything is checked before anything is done. */
#include "launch.h"

static uint64_t get64(const unsigned char *at) { return (uint64_t)get32(at) | (uint64_t)get32(at + 4) << 32; }

#define BIT(field) (1u << (field))

/* Which number fields are slots, which fds inherited from the host, which may be as wide as 64 bits. Any other
 * number must fit in 32. */
struct shape {
    uint16_t slots, optional_slots, fds, wide;
};

static const struct shape shapes[OP_LAST + 1] = {
    [OP_MONITOR] = {.fds = BIT(F_MONITOR_LISTEN_FD) | BIT(F_MONITOR_STDIN_FD) | BIT(F_MONITOR_STDOUT_FD) |
                           BIT(F_MONITOR_STDERR_FD) | BIT(F_MONITOR_STDIN_KEEP_FD) | BIT(F_MONITOR_OOM_FD) |
                           BIT(F_MONITOR_OOM_WATCH_FD),
                    .wide = BIT(F_MONITOR_LOG_MAX_BYTES)},
    [OP_ADOPT] = {.slots = BIT(F_ADOPT_SLOT), .fds = BIT(F_ADOPT_FD)},
    [OP_OPEN] = {.slots = BIT(F_OPEN_SLOT)},
    [OP_OPEN_TREE] = {.slots = BIT(F_OPEN_TREE_SLOT)},
    [OP_NEW_MOUNT] = {.slots = BIT(F_NEW_MOUNT_SLOT), .wide = BIT(F_NEW_MOUNT_ATTR)},
    [OP_IDMAP_USERNS] = {.slots = BIT(F_IDMAP_USERNS_SLOT)},
    [OP_MOUNT_ATTR] = {.slots = BIT(F_MOUNT_ATTR_SLOT),
                       .optional_slots = BIT(F_MOUNT_ATTR_USERNS),
                       .wide = BIT(F_MOUNT_ATTR_SET) | BIT(F_MOUNT_ATTR_CLEAR)},
    [OP_OPEN_TREE_INSIDE] = {.slots = BIT(F_OPEN_TREE_INSIDE_SLOT)},
    [OP_SETNS] = {.slots = BIT(F_SETNS_SLOT)},
    [OP_RLIMIT] = {.wide = BIT(F_RLIMIT_SOFT) | BIT(F_RLIMIT_HARD)},
    [OP_SCHEDULER] = {.wide = BIT(F_SCHEDULER_NICE) | BIT(F_SCHEDULER_FLAGS) | BIT(F_SCHEDULER_RUNTIME) |
                              BIT(F_SCHEDULER_DEADLINE) | BIT(F_SCHEDULER_PERIOD)},
    [OP_CLONE] = {.optional_slots = BIT(F_CLONE_CGROUP), .wide = BIT(F_CLONE_FLAGS)},
    [OP_ROOT_ATTACH] = {.slots = BIT(F_ROOT_ATTACH_SLOT)},
    [OP_MOUNT] = {.wide = BIT(F_MOUNT_ATTR)},
    [OP_ATTACH] = {.slots = BIT(F_ATTACH_SLOT)},
    [OP_REMOUNT] = {.wide = BIT(F_REMOUNT_SET) | BIT(F_REMOUNT_CLEAR)},
    [OP_MKNOD] = {.wide = BIT(F_MKNOD_RDEV)},
    [OP_CONSOLE] = {.optional_slots = BIT(F_CONSOLE_SLOT)},
    [OP_STDIO] = {.optional_slots = BIT(F_STDIO_STDIN) | BIT(F_STDIO_STDOUT) | BIT(F_STDIO_STDERR)},
    [OP_MASK] = {.slots = BIT(F_MASK_SLOT)},
    [OP_BOUNDING] = {.wide = BIT(F_BOUNDING_CAPABILITIES)},
    [OP_CAPS] = {.wide = BIT(F_CAPS_EFFECTIVE) | BIT(F_CAPS_PERMITTED) | BIT(F_CAPS_INHERITABLE) |
                         BIT(F_CAPS_AMBIENT)},
    [OP_HOOK] = {.optional_slots = BIT(F_HOOK_STDOUT_SLOT) | BIT(F_HOOK_STDERR_SLOT)},
    [OP_RUNTIME] = {.optional_slots = BIT(F_RUNTIME_ROOT_SLOT), .fds = BIT(F_RUNTIME_CONSOLE_FD)},
    [OP_CRIU] = {.slots = BIT(F_CRIU_SPACE_SLOT), .fds = BIT(F_CRIU_CONSOLE_FD)},
    [OP_WAIT_START] = {.slots = BIT(F_WAIT_START_SLOT)},
};

static int bad(struct masu_error *err, uint32_t index, const char *name, const char *what)
{
    return fail(err, EBADMSG, "malformed plan: operation %u (%s): %s", index, name, what);
}

static bool is_text(const unsigned char *data, size_t length)
{
    return length > 0 && memchr(data, 0, length) == data + length - 1;
}

static bool is_list(const unsigned char *data, size_t length)
{
    if (length < 4)
        return false;
    uint32_t count = get32(data);
    size_t at = 4;
    for (; count > 0; count--) {
        if (length - at < 4)
            return false;
        size_t item = get32(data + at);
        at += 4;
        if (length - at < item || !is_text(data + at, item))
            return false;
        at += item;
    }
    return at == length;
}

static const char *check_number(const struct shape *shape, unsigned field, uint64_t value)
{
    bool none = value == PLAN_NONE;
    if ((shape->slots >> field & 1) != 0 && value >= PLAN_MAX_SLOTS)
        return "no such slot";
    if ((shape->optional_slots >> field & 1) != 0 && value >= PLAN_MAX_SLOTS && !none)
        return "no such slot";
    if ((shape->fds >> field & 1) != 0 && value > INT32_MAX && !none)
        return "no such file descriptor";
    if ((shape->wide >> field & 1) == 0 && value > UINT32_MAX)
        return "a number is too large";
    return NULL;
}

/* Checks the fields of one operation, whose body is `data`. */
static const char *check_fields(uint16_t code, unsigned count, const unsigned char *data, size_t length)
{
    const char *kinds = op_schemas[code].fields;
    if (count != strlen(kinds))
        return "wrong count of fields";
    size_t at = 0;
    for (unsigned i = 0; i < count; i++) {
        if (length - at < 4)
            return "it ends within a field";
        size_t size = get32(data + at);
        at += 4;
        if (length - at < size)
            return "a field is longer than the operation";
        if (kinds[i] == 'u') {
            if (size != 8)
                return "a number is not 8 bytes long";
            const char *wrong = check_number(&shapes[code], i, get64(data + at));
            if (wrong != NULL)
                return wrong;
        }
        if (kinds[i] == 's' && !is_text(data + at, size))
            return "a text is not ended by its only NUL";
        if (kinds[i] == 'l' && !is_list(data + at, size))
            return "a list is malformed";
        at += size;
    }
    return at == length ? NULL : "bytes are left after its fields";
}

static const char *check_place(struct plan *plan, uint32_t index, size_t offset, uint16_t code)
{
    bool cloned = plan->clone_offset != 0;
    char side = op_schemas[code].side;
    if (side == 'M' && index != 0)
        return "it must be the first";
    if (side == 'H' && cloned)
        return "it belongs before clone";
    if (side == 'C' && !cloned)
        return "it belongs after clone";
    bool ends = code == OP_RUNTIME || code == OP_CRIU;
    if ((code == OP_EXEC || ends) && index + 1 != plan->count)
        return "it must be the last";
    if (code == OP_CLONE || ends) {
        plan->clone_index = index;
        plan->clone_offset = offset;
    }
    return NULL;
}

int plan_check(struct plan *plan, const void *bytes, size_t size, struct masu_error *err)
{
    const unsigned char *data = bytes;
    if (size < PLAN_FIRST || size > PLAN_MAX_BYTES || memcmp(data, PLAN_MAGIC, 8) != 0)
        return fail(err, EBADMSG, "malformed plan: it does not begin as one");
    if (get32(data + 8) != PLAN_VERSION)
        return fail(err, EBADMSG, "plan of version %u, masu-launch speaks %u", get32(data + 8), PLAN_VERSION);
    if (get32(data + 16) != size || get32(data + 20) != 0)
        return fail(err, EBADMSG, "malformed plan: its length is %u, there are %zu bytes", get32(data + 16), size);
    *plan = (struct plan){.data = data, .size = size, .count = get32(data + 12)};
    if (plan->count > PLAN_MAX_OPERATIONS)
        return fail(err, EBADMSG, "malformed plan: %u operations", plan->count);
    size_t at = PLAN_FIRST;
    for (uint32_t index = 0; index < plan->count; index++) {
        if (size - at < 8)
            return bad(err, index, "?", "the plan ends");
        uint16_t code = (uint16_t)(data[at] | data[at + 1] << 8);
        unsigned count = (unsigned)(data[at + 2] | data[at + 3] << 8);
        size_t length = get32(data + at + 4);
        if (code > OP_LAST || op_schemas[code].name == NULL)
            return bad(err, index, "?", "unknown operation");
        const char *name = op_schemas[code].name;
        if (size - at - 8 < length)
            return bad(err, index, name, "it is longer than the plan");
        const char *wrong = check_fields(code, count, data + at + 8, length);
        if (wrong == NULL)
            wrong = check_place(plan, index, at, code);
        if (wrong != NULL)
            return bad(err, index, name, wrong);
        at += 8 + length;
    }
    if (at != size)
        return fail(err, EBADMSG, "malformed plan: %zu bytes are left after its operations", size - at);
    if (plan->clone_offset == 0)
        return fail(err, EBADMSG, "malformed plan: there is no clone");
    return 0;
}

void plan_read(const struct plan *plan, size_t *offset, uint32_t index, struct operation *op)
{
    const unsigned char *at = plan->data + *offset;
    op->index = index;
    op->code = (uint16_t)(at[0] | at[1] << 8);
    *offset += 8 + get32(at + 4);
    at += 8;
    const char *kinds = op_schemas[op->code].fields;
    for (unsigned i = 0; kinds[i] != '\0'; i++) {
        struct field *field = &op->field[i];
        field->length = get32(at);
        field->data = (const char *)at + 4;
        field->number = kinds[i] == 'u' ? get64(at + 4) : 0;
        at += 4 + field->length;
    }
}

void mark_slots(const struct operation *op, bool slots[PLAN_MAX_SLOTS])
{
    unsigned fields = shapes[op->code].slots | shapes[op->code].optional_slots;
    for (unsigned i = 0; i < OP_MAX_FIELDS; i++) {
        if ((fields >> i & 1) != 0 && number_of(op, i) < PLAN_MAX_SLOTS)
            slots[number_of(op, i)] = true;
    }
}

struct list list_of(const struct operation *op, unsigned field)
{
    const unsigned char *at = (const unsigned char *)op->field[field].data;
    return (struct list){.at = at + 4, .left = get32(at)};
}

const char *list_next(struct list *list)
{
    if (list->left == 0)
        return NULL;
    const char *text = (const char *)list->at + 4;
    list->at += 4 + get32(list->at);
    list->left--;
    return text;
}

const char **list_array(const struct operation *op, unsigned field)
{
    struct list list = list_of(op, field);
    const char **array = sys_memory((list.left + 1) * sizeof *array);
    if (array == NULL)
        return NULL;
    uint32_t count = 0;
    for (const char *text; (text = list_next(&list)) != NULL;)
        array[count++] = text;
    array[count] = NULL;
    return array;
}
