"""``python batching_server.py ARGUMENTS``: the server, joining the requests of every model that can take it.

So that all cases can be played with micro-batching: whatever the configuration says, a model is batched, also one for which it
does not pay; a model that cannot be is served as it is.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from tornado_ovms import cli
from tornado_ovms.core.settings import Batching
from tornado_ovms.core.status import Code, Failure
from tornado_ovms.engine import openvino

if TYPE_CHECKING:
    from tornado_ovms.core.lifecycle import Blueprint
    from tornado_ovms.engine.base import Executable

ALWAYS = Batching(8, 1.0)

plain = openvino.OpenVinoEngine.load


def load(engine: openvino.OpenVinoEngine, blueprint: Blueprint) -> Executable:
    """See ``Engine.load``."""
    settings = blueprint.settings
    if settings.batching is None and not settings.stateful:
        try:
            return plain(engine, replace(blueprint, settings=replace(settings, batching=ALWAYS)))
        except Failure as failure:
            if failure.code is not Code.BATCHING:
                raise
    return plain(engine, blueprint)


openvino.UNJOINED_S = 0.0  # type: ignore[misc]
openvino.WORTH = float("inf")  # type: ignore[misc]
openvino.OpenVinoEngine.load = load  # type: ignore[method-assign]
sys.exit(cli.main())
