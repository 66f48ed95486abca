"""The page of results, docs/benchmarks.md, from the files in benchmarks/results: ``python -m benchmarks.report``."""
