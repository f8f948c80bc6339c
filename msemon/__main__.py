"""`python -m msemon` is `msemon`."""

from msemon.cli import main

raise SystemExit(main())
