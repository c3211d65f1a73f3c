"""The part of Feast's online store that is about the server: connections, and what goes away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from feast import Entity, FeatureView, RepoConfig
from feast.infra.online_stores.online_store import OnlineStore

from feature_repo.contracts.redis_address import RedisAddress, parse_address
from feature_repo.stores import online_deletes as deletes
from feature_repo.stores.online_link import Link, open_link
from feature_repo.stores.online_link_async import AsyncLinks
from feature_repo.stores.online_plan import stored_name


class ConnectedStore(OnlineStore):  # type: ignore[misc]
    """An online store with connections to the address of its configuration, made when needed."""

    def __init__(self) -> None:
        self._text = ""
        self._address: RedisAddress | None = None
        self._opened: Link | None = None
        self._in_loops: AsyncLinks | None = None

    def delete_entity(self, config: RepoConfig, keys: Sequence[Mapping[str, str | int]]) -> int:
        """Remove all that is stored of entities, states and fences too; how many hashes it was.

        Args:
            keys: `{join key: value}` each. What an entity is part of goes too: `{"customer_id":
                "c1"}` removes c1's pairs with a corridor as well.

        Trap: it looks at every key of the store. A stream that still has the entity's events
        writes its state again.
        """
        return sum(
            deletes.delete_keys(client, deletes.find_keys(client, config.project, entities=keys))
            for client in self._link(config).clients()
        )

    def update(  # noqa: PLR0917 - Feast's signature
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """After `feast apply`: remove the values of views that are gone.

        Nothing else is prepared, so that a store need not run for views to be applied.
        """
        for view in tables_to_delete:
            features = [field.name for field in view.features]
            stored = stored_name(view, config)
            for client in self._link(config).clients():
                deletes.drop_view(client, config.project, stored, features, view.join_keys)

    def teardown(
        self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]
    ) -> None:
        """Remove every entity of the project that has the views' join keys; close connections."""
        link = self._link(config)
        for join_keys in {tuple(sorted(view.join_keys)) for view in tables}:
            for client in link.clients():
                deletes.drop_entities(client, config.project, join_keys)
        link.close()
        self._opened = None

    async def close(self) -> None:
        """Close the connections of the event loop that runs (`feast serve` calls it)."""
        if self._in_loops is not None:
            await self._in_loops.close()

    def _link(self, config: RepoConfig) -> Link:
        address = self._address_of(config)
        link = self._opened
        if link is None:
            link = self._opened = open_link(address)
        return link

    def _links(self, config: RepoConfig) -> AsyncLinks:
        address = self._address_of(config)
        links = self._in_loops
        if links is None:
            links = self._in_loops = AsyncLinks(address)
        return links

    def _address_of(self, config: RepoConfig) -> RedisAddress:
        text = config.online_store.connection_string
        if self._address is None or text != self._text:
            self._address, self._text = parse_address(text), text
            self._opened = self._in_loops = None
        return self._address
