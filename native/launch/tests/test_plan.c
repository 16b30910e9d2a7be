/* The decoder: what it takes, and that every cut and every flipped byte of a good plan is refused or harmless. */
#include "check.h"

#include "read_all.h"

struct writer {
    unsigned char *data;
    size_t used;
};

static void put(struct writer *writer, const void *data, size_t size)
{
    memcpy(writer->data + writer->used, data, size);
    writer->used += size;
}

static void number32(struct writer *writer, uint32_t value) { put(writer, &value, 4); }

static void number(struct writer *writer, uint64_t value)
{
    number32(writer, 8);
    put(writer, &value, 8);
}

static void text(struct writer *writer, const char *value)
{
    number32(writer, (uint32_t)strlen(value) + 1);
    put(writer, value, strlen(value) + 1);
}

static size_t begin(struct writer *writer, uint16_t code, uint16_t fields)
{
    put(writer, &code, 2);
    put(writer, &fields, 2);
    number32(writer, 0);
    return writer->used;
}

static void end(struct writer *writer, size_t start)
{
    uint32_t length = (uint32_t)(writer->used - start);
    memcpy(writer->data + start - 4, &length, 4);
}

static size_t good_plan(unsigned char *data)
{
    struct writer writer = {data, 0};
    put(&writer, PLAN_MAGIC, 8);
    number32(&writer, PLAN_VERSION);
    number32(&writer, 4);
    number32(&writer, 0);
    number32(&writer, 0);
    size_t at = begin(&writer, OP_OPEN, 3);
    number(&writer, 5);
    text(&writer, "/dev/null");
    number(&writer, 2);
    end(&writer, at);
    at = begin(&writer, OP_CLONE, 2);
    number(&writer, 0x20000000);
    number(&writer, PLAN_NONE);
    end(&writer, at);
    at = begin(&writer, OP_PROC_WRITE, 2);
    text(&writer, "sys/x");
    number32(&writer, 3);
    put(&writer, "a\0b", 3);
    end(&writer, at);
    at = begin(&writer, OP_EXEC, 2);
    number32(&writer, 4 + 4 + 3 + 4 + 1);
    number32(&writer, 2);
    text(&writer, "sh");
    text(&writer, "");
    number32(&writer, 4);
    number32(&writer, 0);
    end(&writer, at);
    uint32_t total = (uint32_t)writer.used;
    memcpy(data + 16, &total, 4);
    return writer.used;
}

static void takes_a_good_plan(const unsigned char *data, size_t size)
{
    struct plan plan;
    struct masu_error err;
    struct operation op;
    CHECK(plan_check(&plan, data, size, &err) == 0);
    CHECK(plan.count == 4 && plan.clone_index == 1);
    size_t offset = PLAN_FIRST;
    plan_read(&plan, &offset, 0, &op);
    CHECK(op.code == OP_OPEN && number_of(&op, F_OPEN_SLOT) == 5);
    CHECK_TEXT(text_of(&op, F_OPEN_PATH), "/dev/null");
    CHECK(offset == plan.clone_offset);
    plan_read(&plan, &offset, 1, &op);
    CHECK(number_of(&op, F_CLONE_FLAGS) == 0x20000000 && small_of(&op, F_CLONE_CGROUP) == PLAN_NONE);
    plan_read(&plan, &offset, 2, &op);
    CHECK(op.field[F_PROC_WRITE_DATA].length == 3 && memcmp(op.field[F_PROC_WRITE_DATA].data, "a\0b", 3) == 0);
    plan_read(&plan, &offset, 3, &op);
    CHECK(offset == size);
    struct list list = list_of(&op, F_EXEC_ARGS);
    CHECK_TEXT(list_next(&list), "sh");
    CHECK_TEXT(list_next(&list), "");
    CHECK(list_next(&list) == NULL);
    const char **array = list_array(&op, F_EXEC_ARGS);
    CHECK_TEXT(array[0], "sh");
    CHECK(array[2] == NULL && list_array(&op, F_EXEC_ENV)[0] == NULL);
}

/* In memory of exactly its size, so that ASan sees a byte read too far. */
static int check_copy(const unsigned char *data, size_t size)
{
    unsigned char *copy = malloc(size == 0 ? 1 : size);
    memcpy(copy, data, size);
    int result = read_all(copy, size);
    free(copy);
    return result;
}

static void refuses_what_is_cut(unsigned char *data, size_t size)
{
    for (size_t cut = 0; cut < size; cut++) {
        CHECK(check_copy(data, cut) < 0);
        /* Also when the header knows of the cut. */
        uint32_t total = (uint32_t)cut;
        if (cut < PLAN_FIRST)
            continue;
        memcpy(data + 16, &total, 4);
        CHECK(check_copy(data, cut) < 0);
    }
    uint32_t total = (uint32_t)size;
    memcpy(data + 16, &total, 4);
}

static void survives_any_byte(unsigned char *data, size_t size)
{
    for (size_t at = 0; at < size; at++) {
        unsigned char before = data[at];
        for (unsigned value = 0; value < 256; value++) {
            data[at] = (unsigned char)value;
            check_copy(data, size);
        }
        data[at] = before;
    }
    CHECK(check_copy(data, size) == 0);
}

int main(void)
{
    static unsigned char data[4096];
    size_t size = good_plan(data);
    takes_a_good_plan(data, size);
    refuses_what_is_cut(data, size);
    survives_any_byte(data, size);
    return 0;
}
