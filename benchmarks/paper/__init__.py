"""The paper's tables and figures, through the public interface, next to the published numbers.

    python -m benchmarks.paper NAME TABLE --out DIR

A table is RouterBench as `cascjax import routerbench` writes it.
"""
