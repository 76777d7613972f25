"""The sections of the report, each from the findings to HTML."""
