"""Everything the user sees. The only package that prints."""
