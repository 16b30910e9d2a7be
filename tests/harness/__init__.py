"""What the tests stand on: the subreaper they run under, the check for what they left, programs they need."""
