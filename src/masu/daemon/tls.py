"""gRPC by TCP: what [grpc] says of its address and certificates. Loaded where there is such an address alone."""

from __future__ import annotations

import ssl

from masu.errors import FailedPrecondition, InvalidArgument


def host_port(address: str) -> tuple[str, int]:
    """`host:port`, an IPv6 address in brackets. Raises InvalidArgument."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise InvalidArgument("address", address, where="grpc.tcp_address", detail="host:port is expected")
    return host.strip("[]"), int(port)


def context(cert: str, key: str, ca: str = "") -> ssl.SSLContext:
    """A server's. With `ca` clients have to show a certificate of its. Raises InvalidArgument without one of our own,
    FailedPrecondition for what cannot be read."""
    for name, given in (("cert", cert), ("key", key)):
        if not given:
            raise InvalidArgument(
                "certificate", where=f"grpc.tcp_tls_{name}", detail="tcp_address is served by TLS alone"
            )
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_alpn_protocols(["h2"])
    path = cert
    try:
        made.load_cert_chain(cert, key)
        if ca:
            path = ca
            made.load_verify_locations(ca)
            made.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:  # ssl.SSLError is one
        raise FailedPrecondition("certificate", path, detail=error.strerror or str(error)) from error
    return made
