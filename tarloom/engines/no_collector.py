"""Loaded first in the server that worker processes are forked from: no garbage is collected while modules are loaded,
nor by the server, whose memory the workers share until someone touches it. Workers collect again once they are open."""

import gc

gc.disable()
