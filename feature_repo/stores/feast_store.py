"""Opening the Feast store with settings handed in rather than read from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Any

import yaml
from feast import FeatureStore, RepoConfig

from feature_repo.contracts.settings import REPO_PATH, Settings


def open_store(settings: Settings) -> FeatureStore:
    """The feature store of `feature_store.yaml`, at these settings' home and Redis.

    `FeatureStore(repo_path=...)` fills the file's variables from the environment instead; the two
    are the same wherever `daima` starts the process.

    Trap: opening connects to nothing; an absent registry shows only when something is asked of it.
    """
    document = yaml.safe_load((REPO_PATH / "feature_store.yaml").read_text(encoding="utf-8"))
    filled = _filled(document, settings.environment())
    return FeatureStore(config=RepoConfig(**filled, repo_path=REPO_PATH))


def _filled(node: Any, variables: Mapping[str, str]) -> Any:
    """A parsed document with its variables filled in.

    Only after parsing: a value that looks like YAML (a password with ` #`) would change the
    document, and the parser's complaint would show it.
    """
    if isinstance(node, dict):
        return {key: _filled(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, variables) for value in node]
    return Template(node).safe_substitute(variables) if isinstance(node, str) else node
