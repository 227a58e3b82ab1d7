"""LongBench v2 (arXiv 2412.15204): prompts, data, scorer and aggregates."""
