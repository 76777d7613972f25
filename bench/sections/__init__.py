"""The sections of the report: each measures one thing and writes one results file."""
