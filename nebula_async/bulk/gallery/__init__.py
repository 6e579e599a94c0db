"""A static page beside a job's pictures, to look at what a run did."""
