"""The OCI runtime: lifecycle, state directory, hooks, and the host's side of the launch protocol.

Library code behind `masu-oci` and behind the engine's own containers; it raises `masu.errors`, never prints, never
exits, and leans on no process-wide state (cwd, environment, umask, stdio).
"""
