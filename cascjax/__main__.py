"""Run the command line as `cascjax` or `python -m cascjax`."""

from cascjax import interrupts


def main() -> None:
    """Run the command line, with signals handled while it is imported."""
    interrupts.handle()
    from cascjax.cli import main

    main()


if __name__ == "__main__":
    main()
