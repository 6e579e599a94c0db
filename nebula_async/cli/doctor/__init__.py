"""`nebula-async doctor`: whether everything that a run needs is there; each file looks at one thing."""
