"""Pages, plots, pictures and cards for people."""
