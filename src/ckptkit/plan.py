"""Moved to plans; stays until every import follows."""

from .plans import *  # noqa: F403
