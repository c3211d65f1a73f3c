"""Models whose champions were trained on another embedding version than the one that serves.

They are fed no vector until they are retrained.
"""

from __future__ import annotations

from feature_repo.contracts.settings import Settings
from training.champion import champion_tags, champion_version
from training.embedding.config import NAME
from training.models import MODELS
from training.registry import EMBEDDING_TAG


def outdated(settings: Settings) -> dict[str, int]:
    """Model -> the embedding version its champion was trained on, if another one serves.

    Nobody is where no embedding serves; nor is a champion that is fed none.

    Raises:
        ModelError: the registry does not answer.
    """
    serves = champion_version(settings, NAME)
    if serves is None:
        return {}
    found = {}
    for model in MODELS:
        tags = champion_tags(settings, model) or {}
        version = tags.get(EMBEDDING_TAG)
        if version is not None and int(version) != int(serves.version):
            found[model] = int(version)
    return found
