"""The command diagnose."""

from cascjax.cli.legacy.diagnose import diagnose as command

__all__ = ["command"]
