"""`python -m masu.daemon` is masud."""

from masu.daemon.main import main

raise SystemExit(main())
