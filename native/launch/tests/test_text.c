#include "check.h"

static void numbers(void)
{
    char out[64];
    format_text(out, sizeof out, "%d %d %u %x %o", 0, -2147483647 - 1, 4294967295u, 0xabcu, 0755u);
    CHECK_TEXT(out, "0 -2147483648 4294967295 abc 755");
    format_text(out, sizeof out, "%lu %ld %zu", 18446744073709551615ul, -1l, (size_t)7);
    CHECK_TEXT(out, "18446744073709551615 -1 7");
    format_text(out, sizeof out, "[%04u] [%5u] [%02u]", 7u, 3u, 123u);
    CHECK_TEXT(out, "[0007] [    3] [123]");
}

static void text(void)
{
    char out[16];
    CHECK(format_text(out, sizeof out, "%s%c%.*s%%", "ab", 'c', 2, "defg") == 6);
    CHECK_TEXT(out, "abcde%");
    CHECK(format_text(out, sizeof out, "%s", "0123456789abcdefgh") == 15);
    CHECK_TEXT(out, "0123456789abcde");
    CHECK(format_text(out, 1, "%s", "x") == 0);
    CHECK_TEXT(out, "");
    CHECK(format_text(out, sizeof out, "%.*s", -1, "x") == 0);
}

static void errors(void)
{
    static char longer[2 * DETAIL_LIMIT];
    struct masu_error err;
    memset(longer, 'x', sizeof longer - 1);
    CHECK(fail(&err, -ENOENT, "%s", "/a") == -1);
    CHECK(err.number == ENOENT);
    CHECK_TEXT(err.detail, "/a");
    fail(&err, EIO, "%s", longer);
    CHECK(strlen(err.detail) == DETAIL_LIMIT - 1);
}

static void parsing(void)
{
    uint64_t value;
    CHECK(parse_number("0", 1, 9, &value) && value == 0);
    CHECK(parse_number("18446744073709551615", 20, UINT64_MAX, &value) && value == UINT64_MAX);
    CHECK(!parse_number("18446744073709551616", 20, UINT64_MAX, &value));
    CHECK(!parse_number("99999999999999999999", 20, UINT64_MAX, &value));
    CHECK(!parse_number("10", 2, 9, &value));
    CHECK(!parse_number("", 0, 9, &value));
    CHECK(!parse_number("1a", 2, 99, &value));
    CHECK(!parse_number("-1", 2, 99, &value));
    CHECK(!parse_number("000000000000000000001", 21, 99, &value));
}

int main(void)
{
    numbers();
    text();
    errors();
    parsing();
    return 0;
}
