"""Measurements behind `make bench`: paired, with spread, never a verdict."""
