"""Read by the interpreter before each file of crun's suite: a case that waits for a connection which never comes must
not hold up all the others of its file."""

import socket

socket.setdefaulttimeout(20)
