"""A job's pictures as a dataset: WebDataset or Parquet shards."""
