"""An audit of the public interface against independent NumPy and SciPy: `make audit`.

`reference` restates the definitions without an import from cascjax, `instances` draws random and
degenerate inputs, `checks` compares, and `python -m benchmarks.audit` prints one table.
"""
