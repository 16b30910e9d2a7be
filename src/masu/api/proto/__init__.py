"""containerd's API as messages: `.proto` files of our own writing from the public names and numbers.

`*_pb2.py` and `*_pb2.pyi` are made of them by tools/protoc, and for processes that must be small `small.py` (see
`wire.py`); a test compares. Services are not generated: whoever
serves or calls one (grpc, ttrpc) walks its descriptor.
"""
