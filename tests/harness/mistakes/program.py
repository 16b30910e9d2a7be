"""The program, its directory and its user."""

from __future__ import annotations

import struct
from typing import Any

from harness.mistakes import (
    Change,
    Mistake,
    Scene,
    args,
    both,
    file,
    folder,
    of,
    put,
    run,
    with_mount,
    with_user_namespace,
)

_EM_S390 = 22
_USER = both(put("process.user", {"uid": 1000, "gid": 1000}), put("process.capabilities", {}))


def _probe_for(machine: int) -> Change:
    """The probe as if it were made for another machine: e_machine of elf(5)."""

    def change(config: dict[str, Any], scene: Scene) -> None:
        data = bytearray((scene.rootfs / "bin/probe").read_bytes())
        data[18:20] = struct.pack("<H", machine)
        file("rootfs/bin/foreign", bytes(data))(config, scene)

    return change


def _needs_loader(loader: bytes) -> Change:
    """A program whose PT_INTERP is `loader`, and nothing else: the kernel opens that before it looks further."""

    def change(config: dict[str, Any], scene: Scene) -> None:
        start = (scene.rootfs / "bin/probe").read_bytes()[:64]
        entry = 64 + 56
        # Elf64_Ehdr of the probe with one program header behind it; ET_EXEC.
        head = start[:16] + struct.pack("<H", 2) + start[18:24] + struct.pack("<QQQ", 0x400000, 64, 0)
        head += start[48:52] + struct.pack("<HHHHHH", 64, 56, 1, 64, 0, 0)
        segment = struct.pack("<IIQQQQQQ", 3, 4, entry, entry, entry, len(loader) + 1, len(loader) + 1, 1)
        file("rootfs/bin/dynamic", head + segment + loader + b"\0")(config, scene)

    return change


MISTAKES = (
    Mistake(
        "a program that is not there, by its path",
        run(args("/bin/nothing")),
        "process.args[0]",
        'exec: "/bin/nothing": stat /bin/nothing: no such file or directory',
        "inside the container",
    ),
    Mistake(
        "a program that is not in PATH",
        run(args("nothing")),
        "process.args[0]",
        'exec: "nothing": executable file not found in $PATH',
        "PATH is /bin",
    ),
    Mistake(
        "a program without PATH in the environment",
        run(both(args("probe"), put("process.env", ["A=b"]))),
        "process.args[0]",
        'exec: "probe": executable file not found in $PATH',
        "add it to process.env",
    ),
    Mistake(
        "exec of a program that is not there",
        of("running", "exec", "ID", "nothing"),
        "command",
        'exec: "nothing": executable file not found in $PATH',
        "PATH is /bin",
        status=255,
    ),
    Mistake(
        "a program for another architecture",
        run(both(_probe_for(_EM_S390), args("/bin/foreign"))),
        "process.args",
        "exec /bin/foreign: exec format error",
        "it is for s390x, this machine is",
        "take the image for this machine",
    ),
    Mistake(
        "the same, found by start",
        lambda scene: scene("start", scene.container("created", both(_probe_for(_EM_S390), args("/bin/foreign")))),
        "process.args",
        "exec /bin/foreign: exec format error",
        "it is for s390x, this machine is",
        "take the image for this machine",
    ),
    Mistake(
        "a script whose interpreter is not there",
        run(both(file("rootfs/run.sh", "#!/bin/bash -e\ntrue\n"), args("/run.sh"))),
        "process.args",
        "exec /run.sh: no such file or directory",
        "interpreter /bin/bash: not found",
        "add the interpreter to the image",
    ),
    Mistake(
        "a script without a #! line",
        run(both(file("rootfs/run.sh", "echo hello\n"), args("/run.sh"))),
        "process.args",
        "exec /run.sh: exec format error",
        "#! line",
        'begin it with "#!/bin/sh"',
    ),
    Mistake(
        "a script with Windows line ends",
        run(both(file("rootfs/run.sh", "#!/bin/probe\r\ntrue\r\n"), args("/run.sh"))),
        "process.args",
        "exec /run.sh: no such file or directory",
        "carriage return",
        "line feeds alone",
    ),
    Mistake(
        "an empty file as program",
        run(both(file("rootfs/empty"), args("/empty"))),
        "process.args",
        "exec /empty: exec format error",
        "the file is empty",
    ),
    Mistake(
        "a program on a noexec mount",
        run(
            both(
                folder("opt"),
                file("opt/tool", "#!/bin/probe\n"),
                args("/opt/tool"),
                with_mount("/opt", "bind", "./opt", "bind", "noexec"),
            )
        ),
        "process.args[0]",
        'exec: "/opt/tool": permission denied',
        "noexec",
    ),
    Mistake(
        "a program whose shared library loader is not there",
        run(both(_needs_loader(b"/lib/ld-musl-none.so.1"), args("/bin/dynamic"))),
        "process.args",
        "exec /bin/dynamic: no such file or directory",
        "interpreter /lib/ld-musl-none.so.1: not found",
        "C library",
    ),
    Mistake(
        "a program that is not executable",
        run(both(file("rootfs/tool", "#!/bin/probe\n", 0o644), args("/tool"))),
        "process.args[0]",
        'exec: "/tool": permission denied',
        "mode 0644",
        "chmod +x",
    ),
    Mistake(
        "a directory as program",
        run(args("/etc")),
        "process.args[0]",
        'exec: "/etc": permission denied',
        "/etc is a directory",
    ),
    Mistake(
        "a program that the user may not execute",
        run(both(_USER, file("rootfs/tool", "#!/bin/probe\n", 0o700), args("/tool"))),
        "process.args[0]",
        'exec: "/tool": permission denied',
        "mode 0700",
        "uid 1000",
    ),
    Mistake(
        "a program below a directory that the user may not enter",
        run(
            both(
                _USER,
                folder("rootfs/private", 0o700),
                file("rootfs/private/tool", "#!/bin/probe\n"),
                args("/private/tool"),
            )
        ),
        "process.args[0]",
        'exec: "/private/tool": permission denied',
        "/private may not be entered by uid 1000 gid 1000",
        "let this user enter it",
    ),
    Mistake(
        "no arguments",
        run(args()),
        "process.args",
        "args must not be empty",
    ),
    Mistake("a working directory that is not there", run(put("process.cwd", "/srv/app")), status=0),
    Mistake(
        "a working directory that is missing on something read-only",
        run(both(folder("data"), with_mount("/srv", "bind", "./data", "bind", "ro"), put("process.cwd", "/srv/app"))),
        "process.cwd",
        "mkdirat /srv/app",
        "EROFS: Read-only file system",
        "create it in the image",
    ),
    Mistake(
        "exec with a working directory that is not there",
        of("running", "exec", "--cwd", "/srv/app", "ID", "/bin/probe", "exit", "0"),
        "--cwd",
        "/srv",
        "chdir",
        "ENOENT",
        "in the container",
        status=255,
    ),
    Mistake(
        "a working directory that is a file",
        run(put("process.cwd", "/etc/passwd")),
        "process.cwd",
        "/etc/passwd",
        "ENOTDIR",
    ),
    Mistake(
        "a working directory that the user may not enter",
        run(both(with_user_namespace, folder("rootfs/private", 0o700), put("process.cwd", "/private"))),
        "process.cwd",
        "chdir",
        "/private",
        "EACCES",
        "may not enter",
    ),
    Mistake(
        "a relative working directory",
        run(put("process.cwd", "srv")),
        "process.cwd",
        "Cwd must be an absolute path",
    ),
    Mistake(
        "a user by name",
        of("running", "exec", "--user", "www", "ID", "/bin/probe", "exit", "0"),
        "--user",
        "www",
        "number",
        status=255,
    ),
    Mistake(
        "an environment variable without a value",
        run(put("process.env", ["PATH=/bin", "DEBUG"])),
        "process.env[1]",
        "DEBUG",
        "NAME=value",
    ),
)
