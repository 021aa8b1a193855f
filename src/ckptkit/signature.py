"""Moved to signatures; stays until every import follows."""

from .signatures import *  # noqa: F403
from .signatures import OBJECT, tied_groups  # noqa: F401
