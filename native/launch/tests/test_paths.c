/* Walking in a root, as an ordinary user in a temporary directory. */
#include "check.h"

static struct launch launch;
static struct masu_error err;
static char root[] = "/tmp/masu-paths-XXXXXX";

static void make_link(const char *target, const char *name)
{
    CHECK(sys(__NR_symlinkat, target, launch.root, name) == 0);
}

static bool is_there(const char *path)
{
    owned_fd fd = sys_open(launch.root, path, O_PATH | O_NOFOLLOW, 0);
    return fd >= 0;
}

static void makes_what_is_missing(void)
{
    owned_place place = NO_PLACE;
    CHECK(walk(&launch, "/a//b/./c/", 0, MAKE_DIRECTORY, &place, &err) == 0);
    CHECK(place.made && !place.is_root && (place.about.stx_mode & KIND_MASK) == KIND_DIRECTORY);
    CHECK_TEXT(place.name, "c");
    place_close(&place);
    CHECK(walk(&launch, "x/y", 0, MAKE_FILE, &place, &err) == 0);
    CHECK((place.about.stx_mode & KIND_MASK) == KIND_FILE);
    CHECK(is_there("a/b/c") && is_there("x/y"));
    place_close(&place);
    CHECK(walk(&launch, "/a/absent", 0, MAKE_NOTHING, &place, &err) < 0 && err.number == ENOENT);
    CHECK_TEXT(err.detail, "/a/absent in the root");
    place_close(&place);
    CHECK(walk(&launch, "/x/y/z", 0, MAKE_DIRECTORY, &place, &err) < 0 && err.number == ENOTDIR);
    CHECK_TEXT(err.detail, "/x/y in the root is not a directory");
}

static void stays_inside(void)
{
    static const char *const escapes[] = {"out/e1", "up/e2", "a/../../../e3", "chain/e4", "../../../e5"};
    make_link("/elsewhere", "out");
    make_link("../../../../../elsewhere", "up");
    make_link("link2", "chain");
    make_link("/a/../elsewhere", "link2");
    for (size_t i = 0; i < sizeof escapes / sizeof escapes[0]; i++) {
        owned_place place = NO_PLACE;
        CHECK(walk(&launch, escapes[i], 0, MAKE_DIRECTORY, &place, &err) == 0);
    }
    CHECK(is_there("elsewhere/e1") && is_there("elsewhere/e2") && is_there("elsewhere/e4"));
    CHECK(is_there("e3") && is_there("e5"));
    CHECK(sys_open(AT_FDCWD, "/elsewhere", O_PATH, 0) == -ENOENT);
}

static void root_and_dots(void)
{
    static const char *const roots[] = {"/", "", ".", "..", "/a/..", "a/b/../..", "toroot", "toroot/."};
    make_link("/", "toroot");
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        owned_place place = NO_PLACE;
        CHECK(walk(&launch, roots[i], 0, MAKE_NOTHING, &place, &err) == 0 && place.is_root);
    }
    owned_place place = NO_PLACE;
    CHECK(walk(&launch, "a/b/c/..", 0, MAKE_NOTHING, &place, &err) == 0 && !place.is_root);
    CHECK_TEXT(place.name, "b");
    place_close(&place);
    CHECK(walk_to_parent(&launch, "/a/..", &place, &err) < 0 && err.number == EINVAL);
}

static void last_component(void)
{
    owned_place place = NO_PLACE;
    make_link("nowhere", "dangling");
    CHECK(walk(&launch, "dangling", WALK_NOFOLLOW, MAKE_NOTHING, &place, &err) == 0);
    CHECK((place.about.stx_mode & KIND_MASK) == KIND_LINK);
    place_close(&place);
    CHECK(walk(&launch, "dangling", 0, MAKE_NOTHING, &place, &err) < 0 && err.number == ENOENT);
    place_close(&place);
    CHECK(walk_to_parent(&launch, "new/dir/file", &place, &err) == 0 && place.missing && place.parent >= 0);
    CHECK(is_there("new/dir") && !is_there("new/dir/file"));
    place = (struct place)NO_PLACE;
    CHECK(walk_to_parent(&launch, "dangling", &place, &err) == 0 && !place.missing);
    place_close(&place);
    CHECK(walk(&launch, "dangling", 0, MAKE_FILE, &place, &err) == 0);
    CHECK(is_there("nowhere"));
}

static void limits(void)
{
    static char text[3 * PATH_LIMIT];
    owned_place place = NO_PLACE;
    make_link("loop2", "loop");
    make_link("loop", "loop2");
    CHECK(walk(&launch, "loop", 0, MAKE_DIRECTORY, &place, &err) < 0 && err.number == ELOOP);
    place_close(&place);
    memset(text, 'n', NAME_LIMIT + 1);
    CHECK(walk(&launch, text, 0, MAKE_DIRECTORY, &place, &err) < 0 && err.number == ENAMETOOLONG);
    place_close(&place);
    memset(text, '/', PATH_LIMIT);
    CHECK(walk(&launch, text, 0, MAKE_DIRECTORY, &place, &err) < 0 && err.number == ENAMETOOLONG);
    place_close(&place);
    /* A symlink to itself with much behind it must end, too, without growing beyond the buffer. */
    memset(text, 'n', 200);
    text[200] = '\0';
    char longer[600];
    format_text(longer, sizeof longer, "grow/%s/%s", text, text);
    make_link(longer, "grow");
    CHECK(walk(&launch, "grow", 0, MAKE_NOTHING, &place, &err) < 0);
    CHECK(err.number == ELOOP || err.number == ENAMETOOLONG);
}

/* Removes everything below `dir`. */
static void empty(int dir)
{
    _Alignas(8) char buffer[4096];
    long length;
    while ((length = sys(__NR_getdents64, dir, buffer, sizeof buffer)) > 0) {
        for (long at = 0; at < length;) {
            const char *name = buffer + at + 19;
            uint16_t step;
            memcpy(&step, buffer + at + 16, 2);
            at += step;
            if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || sys(__NR_unlinkat, dir, name, 0) == 0)
                continue;
            int below = sys_open(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
            empty(below);
            sys_close(below);
            sys(__NR_unlinkat, dir, name, AT_REMOVEDIR);
        }
    }
}

int main(void)
{
    CHECK(mkdtemp(root) != NULL);
    launch.root = sys_open(AT_FDCWD, root, O_PATH | O_DIRECTORY, 0);
    makes_what_is_missing();
    stays_inside();
    root_and_dots();
    last_component();
    limits();
    int dir = sys_open(AT_FDCWD, root, O_RDONLY | O_DIRECTORY, 0);
    empty(dir);
    CHECK(sys(__NR_unlinkat, AT_FDCWD, root, AT_REMOVEDIR) == 0);
    return 0;
}
