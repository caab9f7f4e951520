"""Benchmarks. None is a timed test: it measures, prints, and checks that it was right."""
