"""Every Feast object, in one file: `feast apply` imports this folder's files by bare name.

Stream features derive from the feature set (`contracts/features.py`, or the module that
`DAIMA_DEFINITIONS` names), batch features from `contracts/batch_views.py`, what models are fed from
`contracts/model_services.py`. The state of each entity
is one feature view; each view of the set is an on-demand view over it, which is given `as_of_us`.
Sources are folders of date-partitioned Parquet under `DAIMA_HOME`, by absolute path: a relative one
means one thing to `feast apply` and another to a read.
"""

from __future__ import annotations

from datetime import timedelta

from feast import (
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    PushSource,
    RequestSource,
    ValueType,
)
from feast.data_format import ParquetFormat
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.transformation.udf_rehydrate import rehydrate_udf_from_source
from feast.types import Array, Bytes, Float32, Float64, Int64, String

from feature_repo.contracts.batch_views import BATCH_VIEWS, BatchField, BatchView
from feature_repo.contracts.definition import Dtype
from feature_repo.contracts.feature_set import EntityKey, View, load_feature_set
from feature_repo.contracts.features import CORRIDOR, CUSTOMER, CUSTOMER_SESSION
from feature_repo.contracts.model_services import MODEL_SERVICES, ModelService
from feature_repo.contracts.outlook import (
    OUTLOOK_FEATURES,
    OUTLOOK_MEANINGS,
    OUTLOOK_VIEW,
    SESSION_START_REF,
)
from feature_repo.contracts.scored import SCORED, score_columns, score_view
from feature_repo.contracts.settings import Settings
from feature_repo.contracts.states import AS_OF_FIELD, state_feature, state_view
from feature_repo.engine.on_demand import source_of
from feature_repo.engine.outlook import source_of as outlook_source

_TYPES = {
    Dtype.INT64: Int64,
    Dtype.FLOAT64: Float64,
    Dtype.STRING: String,
    Dtype.BYTES: Bytes,
    Dtype.INT64_LIST: Array(Int64),
    Dtype.STRING_LIST: Array(String),
}
_FEAST = {
    "Array(Float32)": Array(Float32),
    "Bytes": Bytes,
    "Float64": Float64,
    "Int64": Int64,
    "String": String,
}
_settings = Settings.from_env()
_set = load_feature_set(_settings.definitions)

# The batch views are of customers and corridors, whichever entities the set has.
_keys = {key.name: key for key in (CUSTOMER, CORRIDOR, *_set.entities)}
_entities = {
    key.name: Entity(
        name=key.name,
        join_keys=[key.join_key],
        value_type=ValueType.STRING,
        description=f"By {', '.join(key.columns)} of the event",
    )
    for key in _keys.values()
}
customer, corridor = _entities[CUSTOMER.name], _entities[CORRIDOR.name]


class DeclaredView(OnDemandFeatureView):  # type: ignore[misc]
    """An on-demand view with declared types: `feast apply` need not try it on a sample."""

    def infer_features(self) -> None:
        """Nothing: bytes of a sample are no state."""


def _state_view(key: EntityKey) -> FeatureView:
    name = state_view(key.name)
    rows = FileSource(
        name=f"{key.name}_features",
        path=str(_settings.features_table(key.name)),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        description=f"Stream features of the {key.name} at each event",
    )
    return FeatureView(
        name=name,
        entities=[_entities[key.name]],
        ttl=timedelta(0),  # reading is exact after any silence
        schema=[Field(name=state_feature(key.name), dtype=Bytes)],
        source=PushSource(name=f"{name}_push", batch_source=rows),
        online=True,
        description=f"What reading the {key.name}'s stream features needs of its events",
        tags={"kind": "state", "feature_set": _set.name},
    )


def _on_demand_view(view: View) -> DeclaredView:
    source = source_of(view.name, _settings.definitions)
    meanings = "; ".join(f"{output.name}: {output.description}" for output in view.outputs)
    return DeclaredView(
        name=view.name,
        sources=[_states[view.entity.name], reading],
        # Without descriptions: Feast 0.67 loses those of on-demand views, then refuses services
        # whose fields have theirs.
        schema=[Field(name=output.name, dtype=_TYPES[output.dtype]) for output in view.outputs],
        mode="python",
        udf=rehydrate_udf_from_source(source, preferred_name=view.name),
        udf_string=source,
        description=f"{view.description}. {meanings}",
        tags={"kind": "stream", "feature_set": _set.name},
    )


def _daily(name: str, description: str) -> FileSource:
    return FileSource(
        name=f"{name}_daily",
        path=str(_settings.batch_table(name)),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        description=description,
    )


def _batch_field(field: BatchField) -> Field:
    dtype = _FEAST[field.dtype]
    if not field.width:
        return Field(name=field.name, dtype=dtype, description=field.meaning)
    # Told to stores that search vectors themselves; ours is searched by the API.
    return Field(
        name=field.name,
        dtype=dtype,
        description=field.meaning,
        vector_index=True,
        vector_length=field.width,
        vector_search_metric="cosine",
    )


def _batch_view(view: BatchView) -> FeatureView:
    return FeatureView(
        name=view.name,
        entities=[_entities[view.entity]],
        ttl=view.ttl,
        schema=[_batch_field(each) for each in view.fields],
        source=_daily(view.name, view.description),
        online=True,
        tags={"kind": view.kind},
    )


reading = RequestSource(
    name="reading",
    schema=[Field(name=AS_OF_FIELD, dtype=Int64)],
    description="The instant of which features are asked, µs since 1970",
)
_states = {key.name: _state_view(key) for key in _set.entities}
_stream = {view.name: _on_demand_view(view) for view in _set.views}

_batch = {view.name: _batch_view(view) for view in BATCH_VIEWS}


def _outlook() -> DeclaredView | None:
    """Of open sessions; another feature set may know none."""
    state = _states.get(CUSTOMER.name)
    view, _, feature = SESSION_START_REF.partition(":")
    if state is None or feature not in {f.name for f in getattr(_stream.get(view), "features", ())}:
        return None
    source = outlook_source(_settings.definitions)
    return DeclaredView(
        name=OUTLOOK_VIEW,
        sources=[state, _batch["corridor_durations"], reading],
        schema=[Field(name=name, dtype=_FEAST[dtype]) for name, dtype in OUTLOOK_FEATURES.items()],
        mode="python",
        udf=rehydrate_udf_from_source(source, preferred_name=OUTLOOK_VIEW),
        udf_string=source,
        description="; ".join(f"{name}: {text}" for name, text in OUTLOOK_MEANINGS.items()),
        tags={"kind": "outlook", "feature_set": _set.name},
    )


def _scores(model: str, meaning: str) -> FeatureView:
    columns = {name: _FEAST[dtype] for name, dtype in score_columns(model).items()}
    return FeatureView(
        name=score_view(model),
        entities=[customer],
        ttl=timedelta(days=30),
        schema=[Field(name=name, dtype=dtype) for name, dtype in columns.items()],
        source=_daily(score_view(model), f"Predictions of {model} for all customers"),
        online=True,
        description=f"Prediction ({meaning}), probability where it is one, and model version",
        tags={"kind": "scored", "model": model},
    )


def _model_service(declared: ModelService) -> FeatureService | None:
    """A model's inputs; None where the feature set lacks one of them."""
    views = _stream | _batch
    chosen = []
    for name, features in declared.inputs:
        view = views.get(name)
        held = {field.name for field in view.features} if view is not None else set()
        if view is None or not held.issuperset(features or ()):
            return None
        chosen.append(view if features is None else view[list(features)])
    return FeatureService(
        name=declared.model,
        description=declared.description,
        features=chosen,
        tags={"model": declared.model},
    )


session_outlook = _outlook()
# Where the stream features are others, so are the models.
_services = {
    each.model: _model_service(each) for each in MODEL_SERVICES if CUSTOMER_SESSION.name in _stream
}
# `feast apply` takes what this module holds by name, not what lies in a dict.
globals().update(
    {f"entity_{name}": entity for name, entity in _entities.items()}
    | {score_view(model): _scores(model, meaning) for model, meaning in SCORED.items()}
    | {f"state_{name}": view for name, view in _states.items()}
    | {f"stream_{name}": view for name, view in _stream.items()}
    | dict(_batch)
    | {f"service_{name}": service for name, service in _services.items()}
)
