"""The peers' own test suites, run against masu. `./test peers`; CI has neither their sources nor the time."""
