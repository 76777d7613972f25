"""Benchmarks: one table of implementations drives the correctness checks, the timings and the report."""
