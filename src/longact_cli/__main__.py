"""`python -m longact_cli` is the `longact` command."""

from longact_cli.cli.app import main

main()
