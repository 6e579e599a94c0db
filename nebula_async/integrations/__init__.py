"""nebula_async inside other people's programs: each module wants the extra of its name."""
