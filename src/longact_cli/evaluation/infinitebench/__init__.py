"""InfiniteBench (arXiv 2402.13718): prompts, data and both scorers."""
