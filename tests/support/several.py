"""Several commands in one process, of whichever version `cpns` is: ``python -m tests.support.several JSON``."""

import json
import sys

from cpns.cli.main import app

if __name__ == "__main__":
    for arguments in json.loads(sys.argv[1]):
        app(arguments, standalone_mode=False)
