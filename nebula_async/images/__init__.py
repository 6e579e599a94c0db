"""Picture bytes: what they are, where they come from."""
