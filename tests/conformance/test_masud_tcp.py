"""gRPC by TCP: TLS in any case, and whom it lets in."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from harness.masud import MASUD, Masud
from registryfixture import make_ca, make_certificate

from masu.api.proto import version_pb2

pytestmark = pytest.mark.root


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return "{}:{}".format(*free.getsockname())


def ask(address: str, ca: Path, client: tuple[Path, Path] | None = None) -> str:
    """The version; raises grpc.RpcError."""
    certificate, key = [path.read_bytes() for path in client] if client else (None, None)
    credentials = grpc.ssl_channel_credentials(ca.read_bytes(), key, certificate)
    with grpc.secure_channel(address, credentials) as channel:
        call = channel.unary_unary(
            "/containerd.services.version.v1.Version/Version",
            request_serializer=Empty.SerializeToString,
            response_deserializer=version_pb2.VersionResponse.FromString,
        )
        return str(call(Empty(), timeout=20).version)


def refused(address: str, ca: Path, client: tuple[Path, Path] | None = None) -> bool:
    with pytest.raises(grpc.RpcError) as caught:
        ask(address, ca, client)
    error = caught.value
    return isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNAVAILABLE


def test_clients_by_tls(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ca, other = make_ca(ours), make_ca(theirs)
    cert, key = make_certificate(ours)
    operator, visitor = make_certificate(ours, "operator"), make_certificate(ours, "visitor")
    stranger = make_certificate(theirs, "operator")
    address = free_address()
    base = f'version = 3\n[grpc]\ntcp_address = "{address}"\ntcp_tls_cert = "{cert}"\ntcp_tls_key = "{key}"\n'
    with Masud(tmp_path, base) as masud:
        assert "+masu." in ask(address, ca)
        assert refused(address, other)
        assert "whoever reaches" in masud.log()
    masud.config.write_text(f'{base}tcp_tls_ca = "{ca}"\n')
    with masud:
        assert "+masu." in ask(address, ca, operator)
        assert "+masu." in ask(address, ca, visitor)
        assert refused(address, ca)
        assert refused(address, ca, stranger)
    masud.config.write_text(f'{base}tcp_tls_ca = "{ca}"\ntcp_tls_common_name = "operator"\n')
    with masud:
        assert "+masu." in ask(address, ca, operator)
        assert refused(address, ca, visitor)
        assert "+masu." in masud("version")


@pytest.mark.parametrize(
    ("more", "said"),
    [("", "served by TLS alone"), ('tcp_tls_cert = "/none"\ntcp_tls_key = "/none"\n', "certificate /none: No such")],
)
def test_what_keeps_it_from_starting(tmp_path: Path, more: str, said: str) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'version = 3\n[grpc]\ntcp_address = "{free_address()}"\n{more}')
    places = ["--root", str(tmp_path / "root"), "--state", str(tmp_path / "run")]
    done = subprocess.run(
        [MASUD, "--config", str(config), *places], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
