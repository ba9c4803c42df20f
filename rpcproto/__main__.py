"""`python -m rpcproto` is the command `rpcproto`."""

import sys

from rpcproto.cli import main

sys.exit(main())
