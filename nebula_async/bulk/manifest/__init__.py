"""What a job is to make: any kind of input, read lazily into items, and counted before anything is sent."""
