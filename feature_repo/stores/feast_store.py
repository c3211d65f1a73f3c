"""Opening the Feast store with settings handed in rather than read from the environment."""

from __future__ import annotations

from string import Template

import yaml
from feast import FeatureStore, RepoConfig

from feature_repo.contracts.settings import REPO_PATH, Settings


def open_store(settings: Settings) -> FeatureStore:
    """The feature store of `feature_store.yaml`, at these settings' home and Redis.

    `FeatureStore(repo_path=...)` fills the file's variables from the environment instead; the two
    are the same wherever `daima` starts the process.

    Trap: opening connects to nothing; an absent registry shows only when something is asked of it.
    """
    text = (REPO_PATH / "feature_store.yaml").read_text(encoding="utf-8")
    filled = Template(text).safe_substitute(settings.environment())
    return FeatureStore(config=RepoConfig(**yaml.safe_load(filled), repo_path=REPO_PATH))
