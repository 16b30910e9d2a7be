"""gRPC on HTTP/2 (h2): a server's side without I/O (`connection`), statuses, and a client for one call."""
