"""The report of a sweep: its folder in; findings, tables, figures and one page out."""
