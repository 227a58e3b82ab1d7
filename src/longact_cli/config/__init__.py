"""Typed configuration: the schema and the one place that composes it."""
