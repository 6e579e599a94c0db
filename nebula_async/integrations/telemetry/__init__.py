"""What traces and metrics of calls are made of; `integrations.opentelemetry` is the public one."""
