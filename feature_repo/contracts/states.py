"""Names under which an entity's online state is stored in Feast.

The state (`bytes`) is what read-time evaluation needs of a key's events; on-demand views and
serving turn it into features as of an instant.
"""

from __future__ import annotations

# The request's instant, µs since 1970: the field that every on-demand view asks for.
AS_OF_FIELD = "as_of_us"


def state_view(entity: str) -> str:
    """The feature view that holds an entity's states.

    >>> state_view("customer")
    'customer_state'
    """
    return f"{entity}_state"


def state_feature(entity: str) -> str:
    """The one feature of that view.

    Trap: it is not plainly `state`. Feast 0.67 hands an on-demand view its inputs by short names
    and takes away those that another view of the request has too: a request for features of two
    entities would find no state.

    >>> state_feature("customer")
    'customer_state'
    """
    return f"{entity}_state"
