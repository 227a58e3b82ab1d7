"""An analysis on paper: tables, figures, tidy files and one page."""
