"""What `integrations.starlette` and `integrations.fastapi` are made of."""
