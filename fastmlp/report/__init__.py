"""The course assignment that fastmlp began as: every experiment of it run, drawn and judged.

From data to page: ``experiments`` (what is run) -> ``runner`` (running it, resumably) -> ``training_record`` (what
each training left) -> ``claims`` (what follows from it) -> ``page`` (the report).
"""
