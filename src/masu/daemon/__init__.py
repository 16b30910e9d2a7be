"""masud: the engine behind sockets.

main.py      the program: command line, signals, life and end
config.py    config.toml with containerd's keys
service.py   all of it wired: site, services, sockets
server.py    gRPC: services, a bounded pool of threads, bounds for messages and streams
ttrpc.py     ttrpc beside it: events of shims
sockets.py   unix sockets and who may use them
activation.py  a socket that the service manager has opened
verbs.py     publish, oci-hook
calls.py     calls counted
http.py      HTTP beside it: metrics.py for Prometheus, debug.py with what runs and where it is
manager.py   what a service manager is told (sd_notify)
log.py       lines of log

masud ── event loop: gRPC, signals, what waits long
   └── threads: everything that touches the engine, at most `threads` at a time
"""
