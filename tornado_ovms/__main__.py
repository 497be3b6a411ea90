"""``python -m tornado_ovms`` is the command ``tornado-ovms``."""

import sys

from tornado_ovms.cli import main

sys.exit(main())
