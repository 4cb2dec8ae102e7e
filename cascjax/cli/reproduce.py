"""The command reproduce."""

from cascjax.cli.legacy.experiments import reproduce as command

__all__ = ["command"]
