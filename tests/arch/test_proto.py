"""The messages' generated code is what the .proto files say."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "src/masu/api/proto"


def generated(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (*folder.glob("*_pb2.py*"), *folder.glob("small*.py"))}


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    subprocess.run([ROOT / "tools/protoc", tmp_path], check=True)
    wanted = generated(tmp_path / "masu/api/proto")
    assert wanted
    assert generated(PROTO) == wanted, "run tools/protoc"
