"""How one call moves: connections, attempts, verdicts, waits. Knows nothing of pictures."""
