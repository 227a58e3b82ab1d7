"""RULER (arXiv 2404.06654): task templates, generator and scorer."""
