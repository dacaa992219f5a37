"""`python -m musubito`: the command, where its script is not on the path."""

from __future__ import annotations

from musubito.cli import main

if __name__ == "__main__":
    main()
