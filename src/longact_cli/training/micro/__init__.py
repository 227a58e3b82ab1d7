"""Builds the embedded micro model from nothing, so that the shipped weights can be redone."""
