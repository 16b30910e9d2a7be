/* Memory that runs short in the container's cgroup: told when it happens, and once more in the record of the end.
 *
 *     v1   memory.oom_control, and an eventfd registered for it (cgroups.rst of cgroup-v1/memory, "OOM Control"): wakes
 *          before the kernel has chosen whom to kill, and when the cgroup is removed
 *     v2   memory.events itself: POLLPRI when one of its counters has changed (cgroup-v2.rst), not all of which matter */
#include "monitor.h"

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
    if (small_of(&monitor->op, F_MONITOR_OOM_KIND) == OOM_MEMORY_EVENTS)
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
    bool killed = (unsigned long)kills > monitor->oom_kills;
    if (monitor->oom_watch >= 0)
        killed = sys_read(monitor->oom_watch, &times, sizeof times) == sizeof times;
    monitor->oom_kills = (unsigned long)kills;
    if (killed)
        clients_tell(monitor, "m", 1);
}
