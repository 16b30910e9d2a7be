"""What each test image holds. The image configs are like those of the images people know by these names."""

from __future__ import annotations

from dataclasses import dataclass, field

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Recipe:
    """`programs` maps a path in the image to (package, path of the program in it); `files` maps a path to (mode,
    text); `users` are passwd lines; `interpreter` adds the Python that runs the tests, with its library. Every image
    but busybox lies on top of busybox."""

    programs: dict[str, tuple[str, str]]
    config: dict[str, object]
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    interpreter: bool = False


ENTRYPOINT = """#!/bin/sh
set -e
# `docker run redis --appendonly yes`: options alone mean the server.
if [ "${1#-}" != "$1" ]; then
  set -- %s "$@"
fi
exec "$@"
"""

RECIPES: dict[str, Recipe] = {
    "busybox": Recipe(
        programs={"bin/busybox": ("busybox", "bin/busybox")},
        config={"Env": [PATH], "Cmd": ["sh"]},
        folders=("dev", "etc", "home", "proc", "root", "sys", "tmp", "usr/bin", "usr/sbin", "var/spool/mail"),
        users=("root:x:0:0:root:/root:/bin/sh", "nobody:x:65534:65534:nobody:/home:/bin/false"),
    ),
    "redis": Recipe(
        programs={
            "usr/local/bin/redis-server": ("redis-tools", "usr/bin/redis-check-rdb"),
            "usr/local/bin/redis-cli": ("redis-tools", "usr/bin/redis-cli"),
        },
        config={
            "Env": [PATH, "REDIS_VERSION=7.0"],
            "Entrypoint": ["docker-entrypoint.sh"],
            # The image people pull is built with protected mode off: inside a container every client is a stranger.
            "Cmd": ["redis-server", "--protected-mode", "no"],
            "ExposedPorts": {"6379/tcp": {}},
            "Volumes": {"/data": {}},
            "WorkingDir": "/data",
        },
        files={"usr/local/bin/docker-entrypoint.sh": (0o755, ENTRYPOINT % "redis-server")},
        folders=("data",),
        users=("redis:x:999:999::/data:/bin/sh",),
    ),
    "memcached": Recipe(
        programs={"usr/local/bin/memcached": ("memcached", "usr/bin/memcached")},
        config={
            "Env": [PATH],
            "Entrypoint": ["docker-entrypoint.sh"],
            "Cmd": ["memcached"],
            "User": "memcache",
            "ExposedPorts": {"11211/tcp": {}},
        },
        files={"usr/local/bin/docker-entrypoint.sh": (0o755, ENTRYPOINT % "memcached")},
        users=("memcache:x:11211:11211::/home:/bin/sh",),
    ),
    "nginx": Recipe(
        programs={"usr/sbin/nginx": ("nginx", "usr/sbin/nginx")},
        config={
            "Env": [PATH],
            "Cmd": ["nginx", "-g", "daemon off;"],
            "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGQUIT",
            "Labels": {"maintainer": "masu's tests"},
        },
        files={
            "etc/nginx/nginx.conf": (
                0o644,
                "user nginx;\nworker_processes 1;\nerror_log /dev/stderr notice;\npid /run/nginx.pid;\n"
                "events { worker_connections 64; }\n"
                "http { access_log /dev/stdout; server { listen 80; root /usr/share/nginx/html; } }\n",
            ),
            "usr/share/nginx/html/index.html": (0o644, "<h1>Welcome to nginx!</h1>\n"),
        },
        folders=("run", "var/log/nginx", "var/lib/nginx"),
        users=("nginx:x:101:101::/nonexistent:/bin/false",),
    ),
    "python": Recipe(
        programs={},
        config={"Env": [PATH, "LANG=C.UTF-8"], "Cmd": ["python3"]},
        interpreter=True,
    ),
}

NAMES = tuple(RECIPES)
