"""Writes src/masu/api/proto/small*.py: messages as tables for masu.api.proto.wire, for processes that must be small.

small_messages.py FOLDER: the folder in which masu/api/proto/*_pb2.py are. Called by tools/protoc.
"""

import importlib
import sys
from pathlib import Path

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor

folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))

# For each module whole files, and single messages of others; what these consist of comes with them.
FILES = {
    "small": (
        "ttrpc", "shim_task", "shim_sandbox", "shim_bootstrap", "runc_options", "linux_runc", "events_ttrpc",
        "cri_sandbox", "runtime_options",
    ),
    "small_metrics_v1": ("metrics_v1",),
    "small_metrics_v2": ("metrics_v2",),
}  # fmt: skip
MESSAGES = {
    "small": {
        "event_types": (
            "TaskCreate", "TaskStart", "TaskDelete", "TaskExit", "TaskOOM", "TaskExecAdded", "TaskExecStarted",
            "TaskPaused", "TaskResumed", "TaskCheckpointed",
        ),
        "types": ("RuntimeInfo",),
    }
}  # fmt: skip
HEAD = '''"""Messages for `wire`, made from the .proto files beside it (tools/protoc)."""

from __future__ import annotations

from masu.api.proto import wire as _

TYPE_CHECKING = False
'''

_F = FieldDescriptor
KINDS = {
    _F.TYPE_BOOL: ("BOOL", "bool"),
    _F.TYPE_ENUM: ("ENUM", "int"),
    _F.TYPE_INT32: ("INT32", "int"),
    _F.TYPE_INT64: ("INT64", "int"),
    _F.TYPE_UINT32: ("UINT32", "int"),
    _F.TYPE_UINT64: ("UINT64", "int"),
    _F.TYPE_FLOAT: ("FLOAT", "float"),
    _F.TYPE_DOUBLE: ("DOUBLE", "float"),
    _F.TYPE_STRING: ("STRING", "str"),
    _F.TYPE_BYTES: ("BYTES", "bytes"),
    _F.TYPE_MESSAGE: ("MESSAGE", ""),
}


def class_name(message: Descriptor) -> str:
    return f"{class_name(message.containing_type)}{message.name}" if message.containing_type else message.name


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def type_of(field: FieldDescriptor) -> str:
    if is_map(field):
        key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
        return f"dict[{type_of(key)}, {type_of(value).removesuffix(' | None')}]"
    name = KINDS[field.type][1] or class_name(field.message_type)
    if field.is_repeated:
        return f"list[{name}]"
    return f"{name} | None" if field.message_type else name


def lines_of(message: Descriptor) -> list[str]:
    fields = sorted(message.fields, key=lambda field: field.number)
    names = ", ".join(f'"{name}"' for name in sorted(field.name for field in fields))
    lines = [f"class {class_name(message)}(_.Message):"]
    lines.append(f"    __slots__ = ({names}{',' if len(fields) == 1 else ''})")
    if not fields:
        return lines
    lines.append("    FIELDS = {")
    for field in fields:
        many = "MAP" if is_map(field) else "MANY" if field.is_repeated else "ONE"
        inner = class_name(field.message_type) if field.message_type else "None"
        lines.append(f'        {field.number}: ("{field.name}", _.{KINDS[field.type][0]}, _.{many}, {inner}),')
    lines.append("    }")
    lines.append("    if TYPE_CHECKING:")
    lines += [f"        {field.name}: {type_of(field)}" for field in fields]
    lines.append("")
    lines.append("        def __init__(")
    lines.append("            self,")
    lines.append("            *,")
    lines += [f"            {field.name}: {type_of(field).removesuffix(' | None')} | None = None," for field in fields]
    lines.append("        ) -> None: ...")
    return lines


def module(name: str) -> FileDescriptor:
    return importlib.import_module(f"masu.api.proto.{name}_pb2").DESCRIPTOR


def write(message: Descriptor, done: dict[str, Descriptor], text: list[str]) -> None:
    """The message, after those that it is made of."""
    if message.full_name in done:
        return
    done[message.full_name] = message
    for field in message.fields:
        if field.message_type:
            write(field.message_type, done, text)
    text.append("\n" + "\n".join(lines_of(message)) + "\n")


def text_of(output: str) -> str:
    done: dict[str, Descriptor] = {}
    text = [HEAD]
    for name in FILES[output]:
        for message in module(name).message_types_by_name.values():
            write(message, done, text)
        for service in module(name).services_by_name.values():
            for method in service.methods:
                write(method.output_type, done, text)
    for name, messages in MESSAGES.get(output, {}).items():
        for message in messages:
            write(module(name).message_types_by_name[message], done, text)
    # The full names, by which an Any is told.
    text.append("\nNAMES: dict[str, type[_.Message]] = {\n")
    for full, message in done.items():
        if not message.GetOptions().map_entry:
            text.append(f'    "{full}": {class_name(message)},\n')
    text.append("}\n")
    assert len({class_name(message) for message in done.values()}) == len(done), "two messages of one name"
    return "".join(text)


for output in FILES:
    (folder / "masu/api/proto" / f"{output}.py").write_text(text_of(output))
