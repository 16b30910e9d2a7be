"""Prints native/launch/ops.h, the C side of the contract in `masu.plan.ops`.

python -m masu.plan.header > native/launch/ops.h
"""

from __future__ import annotations

from masu.plan import ops


def render() -> str:
    lines = [
        "/* Made by `python -m masu.plan.header` from src/masu/plan/ops.py; do not edit. */",
        "#ifndef MASU_OPS_H",
        "#define MASU_OPS_H",
        "",
        f'#define PLAN_MAGIC "{ops.MAGIC.decode()}"',
        f"#define PLAN_VERSION {ops.VERSION}",
        f"#define PLAN_MAX_OPERATIONS {ops.MAX_OPERATIONS}",
        f"#define PLAN_MAX_SLOTS {ops.MAX_SLOTS}",
        f"#define PLAN_MAX_BYTES {ops.MAX_PLAN_BYTES}u",
        f"#define PLAN_NONE {ops.NONE:#x}u",
        "",
    ]
    for name, value in sorted(vars(ops).items()):
        if name.startswith(("MONITOR_", "OOM_", "TARGET_", "CONSOLE_", "KEEP_", "MSG_")):
            lines.append(f"#define {name} {value}")
    lines += ["", "enum op_code {"]
    lines += [f"    OP_{name.upper()} = {code}," for name, (code, _, _) in ops.TABLE.items()]
    lines += ["};", "", "/* Index of each field in its operation. */", "enum op_field {"]
    for name, (_, _, fields) in ops.TABLE.items():
        for index, field in enumerate(fields.split()):
            lines.append(f"    F_{name.upper()}_{field.partition(':')[0].upper()} = {index},")
    lines += ["};", "", "struct op_schema {", "    const char *name;", "    char side;", "    const char *fields;"]
    lines += ["};", ""]
    last = max(code for code, _, _ in ops.TABLE.values())
    widest = max(len(fields.split()) for _, _, fields in ops.TABLE.values())
    lines += [f"#define OP_LAST {last}", f"#define OP_MAX_FIELDS {widest}", ""]
    lines += ["static const struct op_schema op_schemas[OP_LAST + 1] = {"]
    for name, (code, side, fields) in ops.TABLE.items():
        kinds = "".join(field.partition(":")[2] for field in fields.split())
        lines.append(f'    [{code}] = {{"{name}", \'{side}\', "{kinds}"}},')
    lines += ["};", "", "#endif"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render(), end="")
