"""Read YAML with every scalar as the text that stands there, and no key twice."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from feature_repo.contracts.errors import MappingError


class _TextLoader(yaml.BaseLoader):
    """Plain dictionaries, lists and texts: `NO` is no boolean here, `1` no number.

    YAML's own rules would turn `Norway: NO` into false; the mapping's types decide instead.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(self.construct_object(key_node, deep=True))
            if key in seen:
                # YAML lets the later one win in silence.
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key} stands here twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=True)


def read_yaml(path: Path) -> object:
    """The document in a mapping file.

    Raises:
        MappingError: there is no such file, or it is no YAML; names the line.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MappingError(
            "mapping file", str(path), "a YAML file in UTF-8", f"check the path ({error})"
        ) from error
    try:
        return yaml.load(text, Loader=_TextLoader)  # noqa: S506  # makes texts only
    except yaml.YAMLError as error:
        raise MappingError(
            "mapping file", str(path), "valid YAML", f"mend it: {' '.join(str(error).split())}"
        ) from error
