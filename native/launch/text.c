/* Errors and bounded text, without stdio. */
#include "launch.h"

struct out {
    char *data;
    size_t size, used;
};

static void put(struct out *out, char byte)
{
    if (out->used + 1 < out->size)
        out->data[out->used++] = byte;
}

static void put_number(struct out *out, unsigned long long value, unsigned base, bool negative, unsigned width,
                       char pad)
{
    char digits[24];
    unsigned count = 0;
    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    if (negative)
        put(out, '-');
    for (unsigned have = count + (negative ? 1 : 0); have < width; have++)
        put(out, pad);
    while (count > 0)
        put(out, digits[--count]);
}

size_t format_list(char *data, size_t size, const char *format, va_list arguments)
{
    struct out out = {data, size, 0};
    for (; *format != '\0'; format++) {
        if (*format != '%') {
            put(&out, *format);
            continue;
        }
        format++;
        char pad = ' ';
        unsigned width = 0, longs = 0;
        size_t precision = SIZE_MAX;
        if (*format == '0')
            pad = *format++;
        for (; *format >= '0' && *format <= '9'; format++)
            width = width * 10 + (unsigned)(*format - '0');
        if (format[0] == '.' && format[1] == '*') {
            int wanted = va_arg(arguments, int);
            precision = wanted < 0 ? 0 : (size_t)wanted;
            format += 2;
        }
        for (; *format == 'l' || *format == 'z'; format++)
            longs++;
        if (*format == '\0')
            break;
        if (*format == 's') {
            const char *text = va_arg(arguments, const char *);
            for (size_t i = 0; i < precision && text[i] != '\0'; i++)
                put(&out, text[i]);
        } else if (*format == 'c') {
            put(&out, (char)va_arg(arguments, int));
        } else if (*format == 'd') {
            long value = longs > 0 ? va_arg(arguments, long) : va_arg(arguments, int);
            unsigned long magnitude = value < 0 ? 0 - (unsigned long)value : (unsigned long)value;
            put_number(&out, magnitude, 10, value < 0, width, pad);
        } else if (*format == 'u' || *format == 'x' || *format == 'o') {
            unsigned long value = longs > 0 ? va_arg(arguments, unsigned long) : va_arg(arguments, unsigned);
            put_number(&out, value, *format == 'u' ? 10 : *format == 'x' ? 16 : 8, false, width, pad);
        } else {
            put(&out, *format);
        }
    }
    if (size > 0)
        data[out.used] = '\0';
    return out.used;
}

size_t format_text(char *out, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t used = format_list(out, size, format, arguments);
    va_end(arguments);
    return used;
}

int fail(struct masu_error *err, long number, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    err->number = (int)(number < 0 ? -number : number);
    format_list(err->detail, sizeof err->detail, format, arguments);
    va_end(arguments);
    return -1;
}

int check(struct masu_error *err, long result, const char *format, ...)
{
    if (result >= 0)
        return 0;
    va_list arguments;
    va_start(arguments, format);
    err->number = (int)-result;
    format_list(err->detail, sizeof err->detail, format, arguments);
    va_end(arguments);
    return -1;
}

bool parse_number(const char *text, size_t length, uint64_t limit, uint64_t *out)
{
    uint64_t value = 0;
    if (length == 0 || length > 20)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return value <= limit;
}
