"""Benchmarks by their official protocols, on lm-eval's model backends."""
