"""``python -m ckptkit``."""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments; the process's own by default.

    Returns:
        The exit code: 0 done or yes, 1 no, 2 an error, 130 and 143 interrupted.
    """
    from .cli.app import run

    return run(sys.argv[1:] if argv is None else argv)


if __name__ == "__main__":
    sys.exit(main())
