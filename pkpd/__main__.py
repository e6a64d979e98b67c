"""``python -m pkpd`` is the ``pkpd`` command."""

from pkpd.cli import main

main()
