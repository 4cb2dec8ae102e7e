"""The functional core: pure JAX functions of arrays."""
