/* Protobuf as far as shim.c reads it. */
#include "../../launch/tests/check.h"
#include "../shim.h"

#include <string.h>

static struct text bytes(const char *at, size_t length)
{
    return (struct text){at, length};
}

int main(void)
{
    struct proto_field field;
    /* By the book (protobuf.dev, "Encoding"): field 1 = 150, field 2 = "testing". */
    struct text rest = bytes("\x08\x96\x01\x12\x07testing", 12);
    CHECK(next_field(&rest, &field) && field.number == 1 && field.type == 0 && field.value == 150);
    CHECK(next_field(&rest, &field) && field.number == 2 && field.type == 2 && field.text.length == 7);
    CHECK(memcmp(field.text.at, "testing", 7) == 0);
    CHECK(!next_field(&rest, &field) && rest.length == 0);
    /* Numbers of a fixed size are passed over. */
    rest = bytes("\x0d\x01\x02\x03\x04\x11\x01\x02\x03\x04\x05\x06\x07\x08\x18\x05", 16);
    CHECK(next_field(&rest, &field) && field.text.length == 4);
    CHECK(next_field(&rest, &field) && field.text.length == 8);
    CHECK(next_field(&rest, &field) && field.number == 3 && field.value == 5);
    /* -4 as an enum. */
    rest = bytes("\x18\xfc\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
    CHECK(next_field(&rest, &field) && (int64_t)field.value == -4);
    /* What is none is left where it is. */
    static const struct {
        const char *at;
        size_t length;
    } none[] = {{"\x12\x08testing", 9}, {"\x08", 1}, {"\x08\x96", 2}, {"\x0b", 1}, {"\x0d\x01\x02\x03", 4},
                {"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}, {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11}};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        rest = bytes(none[i].at, none[i].length);
        CHECK(!next_field(&rest, &field) && rest.length == none[i].length);
    }
    return 0;
}
