"""``python -m cpns`` is the ``cpns`` command."""

from cpns.cli.main import main

if __name__ == "__main__":
    main()
