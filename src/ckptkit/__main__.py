"""``python -m ckptkit``."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the words after the program's name; the process's own by default.

    Returns:
        0 done, yes; 1 the honest answer is no; 2 everything else that stops a command; 128 + n after signal n.
    """
    if argv is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Nothing has begun: Ctrl-C while modules are read may end the process as it ends others, without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if argv is None:
        # Hundreds of thousands of small objects are made and hardly one dies: fewer collections start a tenth faster.
        gc.set_threshold(100_000, 50, 50)
        # Plugins of pydantic serve applications, and looking for some reads the metadata of every installed package.
        os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        from .cli.app import run

        return run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:  # while the modules above were still being read
        return 130
    finally:
        if argv is None:
            # The process ends: whatever still lies in cycles holds memory only, and to walk all of it takes 40 ms.
            gc.freeze()


if __name__ == "__main__":
    sys.exit(main())
