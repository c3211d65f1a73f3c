"""The route of the nearest customers."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.exceptions import ValidationException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, QueryParameter

from serving.customer_api import customer_in
from serving.openapi import problem_answers
from serving.problems import ParameterError, answer_to, request_id
from serving.similar_index import SimilarIndex

SIMILAR = "/v1/similar/"
MOST = 100


class SimilarCustomer(msgspec.Struct, kw_only=True):
    """A customer who is near.

    Attributes:
        similarity: cosine of the two vectors, 1 for alike to -1.
        corridor: the customer's main one; null if unknown.
        segment: likewise.
    """

    customer: str
    similarity: float
    corridor: str | None
    segment: str | None


class SimilarResponse(msgspec.Struct, kw_only=True):
    """The customers nearest to one, nearest first; fewer than k where no more pass the filters."""

    customer: str
    request_id: str
    embedding_version: int
    similar: list[SimilarCustomer]


def similar_routes(index: SimilarIndex) -> list[HTTPRouteHandler]:
    """The handler, answering with this index."""

    @get(
        SIMILAR + "{customer:path}",
        responses=problem_answers(400, 401, 404, 409, 422, 429, 504),
        exception_handlers={ValidationException: _wrong_parameter},
    )
    async def similar(
        customer: FromPath[str],
        request: Request[Any, Any, Any],
        k: Annotated[int, QueryParameter(ge=1, le=MOST, description="how many")] = 10,
        corridor: Annotated[
            str | None, QueryParameter(description="only those whose main corridor it is")
        ] = None,
        segment: Annotated[
            str | None, QueryParameter(description="only those of this segment")
        ] = None,
    ) -> SimilarResponse:
        """The customers most like one, by the cosine of their vectors."""
        name = customer_in(request.scope, SIMILAR)
        version, found = await index.search(name, k, corridor, segment)
        return SimilarResponse(
            customer=name,
            request_id=request_id(request.scope),
            embedding_version=version,
            similar=[
                SimilarCustomer(
                    customer=each.customer,
                    similarity=each.similarity,
                    corridor=each.corridor,
                    segment=each.segment,
                )
                for each in found
            ],
        )

    return [similar]


def _wrong_parameter(request: Request[Any, Any, Any], error: ValidationException) -> Response[Any]:
    told = error.extra if isinstance(error.extra, list) else []
    wrong = next((each["key"] for each in told if isinstance(each, dict) and "key" in each), "k")
    return answer_to(
        request,
        ParameterError(
            str(wrong),
            request.query_params.get(str(wrong), ...),
            f"a whole number from 1 to {MOST}",
            "as in ?k=10",
        ),
    )
