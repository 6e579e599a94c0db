"""What Nebula Block says: bytes to values and back. No I/O, no clock."""
