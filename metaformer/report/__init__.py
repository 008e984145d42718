"""Pages, pictures and tables that are written from the files of runs. Empty on purpose: a table needs no plots."""
