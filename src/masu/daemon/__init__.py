"""masud: the engine behind sockets.

main.py      the program: command line, signals, life and end
config.py    config.toml with containerd's keys
server.py    gRPC: services, a bounded pool of threads, bounds for messages and streams
sockets.py   unix sockets and who may use them; socket activation
manager.py   what a service manager is told (sd_notify)
log.py       lines of log

masud ── event loop: gRPC, signals, what waits long
   └── threads: everything that touches the engine, at most `threads` at a time
"""
