"""The command evaluate."""

from cascjax.cli.legacy.policy import evaluate as command

__all__ = ["command"]
