"""Faults on real sweeps; `make chaos` runs all of them and prints what became of each."""
