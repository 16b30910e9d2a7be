"""The programs people type: `masu` (cli/engine) and `masu-oci` (cli/oci)."""
