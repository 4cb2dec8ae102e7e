"""Run the command line as `python -m cascjax`."""

from cascjax.cli import main

if __name__ == "__main__":
    main()
