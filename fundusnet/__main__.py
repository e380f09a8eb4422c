"""``python -m fundusnet`` is ``fundusnet``."""

from __future__ import annotations

from fundusnet.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
