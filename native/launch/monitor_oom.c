/* Memory that runs short in the container's cgroup: told when it happens, and once more in the record of the end.
 *
 *     v1   memory.oom_control, and an eventfd registered for it (cgroups.rst of cgroup-v1/memory, "OOM Control"): wakes
 *          before the kernel has chosen whom to kill, and when the cgroup is removed
 *     v2   memory.events itself: POLLPRI when one of its counters has changed (cgroup-v2.rst), not all of which matter */
#include "monitor.h"

#define COUNT_MS 100

void tell_oom(struct launch *launch, const char *directory)
{
    char path[PATH_LIMIT], text[32];
    format_text(path, sizeof path, "%s/memory.events", directory);
    owned_fd events = sys_open(AT_FDCWD, path, O_RDONLY, 0);
    if (events >= 0) {
        tell_monitor(launch, TELL_OOM, OOM_MEMORY_EVENTS, events);
        return;
    }
    format_text(path, sizeof path, "%s/memory.oom_control", directory);
    owned_fd counter = sys_open(AT_FDCWD, path, O_RDONLY, 0);
    if (counter < 0)
        return;
    format_text(path, sizeof path, "%s/cgroup.event_control", directory);
    owned_fd control = sys_open(AT_FDCWD, path, O_WRONLY, 0);
    owned_fd watch = (int)sys(__NR_eventfd2, 0, O_CLOEXEC | O_NONBLOCK);
    size_t length = format_text(text, sizeof text, "%d %d", watch, counter);
    if (control >= 0 && watch >= 0 && write_whole(control, text, length) == 0)
        tell_monitor(launch, TELL_WATCH, 0, watch);
    tell_monitor(launch, TELL_OOM, OOM_CONTROL, counter);
}

long oom_count(const struct monitor *monitor)
{
    char text[1024];
    if (monitor->oom < 0)
        return -1;
    long length = sys(__NR_pread64, monitor->oom, text, sizeof text - 1, 0);
    if (length <= 0)
        return -1;
    text[length] = '\0';
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        if (*line == '\n')
            line++;
        if (strncmp(line, "oom_kill ", 9) != 0)
            continue;
        size_t digits = 0;
        uint64_t value = 0;
        while (line[9 + digits] >= '0' && line[9 + digits] <= '9')
            digits++;
        return parse_number(line + 9, digits, INT64_MAX, &value) ? (long)value : -1;
    }
    return -1;
}

struct pollfd oom_waits(const struct monitor *monitor)
{
    if (monitor->oom_kind == OOM_MEMORY_EVENTS)
        return (struct pollfd){.fd = monitor->oom, .events = POLLPRI};
    return (struct pollfd){.fd = monitor->oom_watch, .events = POLLIN};
}

void oom_hear(struct monitor *monitor)
{
    long kills = oom_count(monitor);
    if (kills < 0) { /* the cgroup has gone */
        if (monitor->oom_watch >= 0)
            sys_close(release_fd(&monitor->oom_watch));
        else
            sys_close(release_fd(&monitor->oom));
        return;
    }
    uint64_t times;
    bool woken = monitor->oom_watch >= 0 && sys_read(monitor->oom_watch, &times, sizeof times) == sizeof times;
    /* v1 wakes before it counts, and for one process several times. */
    for (int i = 0; woken && i < COUNT_MS && kills >= 0 && (unsigned long)kills <= monitor->oom_kills; i++) {
        sys_poll(NULL, 0, 1);
        kills = oom_count(monitor);
    }
    bool killed = kills > 0 && (unsigned long)kills > monitor->oom_kills;
    /* Where nobody is to be killed (oom_kill_disable) all wait: that is told once. */
    bool stuck = woken && !killed && kills == 0 && !monitor->oom_stuck;
    if (killed)
        monitor->oom_kills = (unsigned long)kills;
    monitor->oom_stuck = monitor->oom_stuck || stuck;
    if (killed || stuck)
        clients_tell(monitor, "m", 1);
}
