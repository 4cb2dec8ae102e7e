"""Routing, cascading and cascade routing of language models, simulated at scale in JAX."""

__version__ = "0.1.0"
