"""From tracked studies to tables, figures and files."""
