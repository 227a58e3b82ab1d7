"""Activation profiles of queries and keys: how concentrated they are, and on which rows."""
