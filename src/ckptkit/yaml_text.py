"""Plain data as YAML, for a config file and for what a report prints: the same text."""

from __future__ import annotations

import re
from typing import Any

YAML_1_1_BREAK = re.compile("[\x85\u2028\u2029]|\r(?!\n)")


def write_yaml(document: dict[str, Any]) -> str:
    """Plain data as YAML that `config.documents.read_document` reads back."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Escapes the characters that only some readers take for the end of a line; writes no aliases."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: Any, value: str) -> Any:
        quotes = '"' if YAML_1_1_BREAK.search(value) else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=quotes)

    Dumper.add_representer(str, text)
    return str(yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110))
