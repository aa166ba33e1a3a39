"""On-demand prices of EC2 instance types from the AWS Price List Query API.

One question is one `GetProducts` call with filters that leave one product: Linux, shared tenancy,
no preinstalled software, capacity in use. The answer holds products as texts of JSON; the price is
that of the one on-demand term's dimension whose unit is an hour.

Source: AWS Price List Query API, GetProducts; AWS Price List, "Reading an offer" (terms.OnDemand.
<sku>.<offer>.priceDimensions.<rate>.pricePerUnit.<currency>). The API is served in us-east-1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fleet.costs.prices import QuotedPrice
from fleet.costs.quotes import PriceQuestion
from fleet.errors import NotFoundError, PermanentError, SourceUnavailableError

API_REGION = "us-east-1"
CURRENCY = "USD"
_SERVICE = "AmazonEC2"
_FILTERS = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
}
_SETTINGS_HINT = "Set `costs.aws_prices = false` to use the prices of the settings alone."


class AwsPriceSource:
    """Asks AWS; satisfies `fleet.ports.price_source.PriceSource`.

    Args:
        endpoint_url: empty for AWS's own.
        timeout_s: for a connection, and of silence.
    """

    def __init__(self, endpoint_url: str = "", *, timeout_s: float = 20.0) -> None:
        """Remember; nothing is opened before the first question."""
        self._endpoint_url = endpoint_url
        self._timeout_s = timeout_s

    def quotes(self, questions: Sequence[PriceQuestion], now: datetime) -> list[QuotedPrice]:
        """See the port; the connection is closed again."""
        if not questions:
            return []
        client = self._client()
        try:
            return [self._quote(client, one, now) for one in questions]
        finally:
            client.close()

    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=self._timeout_s,
            read_timeout=self._timeout_s,
            retries={"total_max_attempts": 3, "mode": "standard"},
        )
        # a session of its own: the shared one keeps credentials that may have been taken away
        return boto3.session.Session().client(
            "pricing",
            region_name=API_REGION,
            endpoint_url=self._endpoint_url or None,
            config=config,
        )

    def _quote(self, client: Any, question: PriceQuestion, now: datetime) -> QuotedPrice:
        wanted = {
            **_FILTERS,
            "instanceType": question.instance_type,
            "regionCode": question.region,
        }
        filters = [
            {"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()
        ]
        answer = _asked(client, filters)
        prices = {price for text in answer for price in hourly_prices(text)}
        named = f"{question.instance_type} in {question.region}"
        if not prices:
            raise NotFoundError(
                f"AWS quotes no on-demand price for {named}",
                hint="Check `prices.NAME.instance_type` and the region's name.",
            )
        if len(prices) > 1:
            raise PermanentError(
                f"AWS quotes {len(prices)} on-demand prices for {named}: {sorted(prices)}",
                hint=_SETTINGS_HINT,
            )
        return QuotedPrice(question.region, question.instance_type, prices.pop(), CURRENCY, now)


def _asked(client: Any, filters: Sequence[dict[str, str]]) -> list[str]:
    """Products as texts of JSON, of all pages."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        NoCredentialsError,
        PartialCredentialsError,
    )

    try:
        pages = client.get_paginator("get_products").paginate(
            ServiceCode=_SERVICE, Filters=list(filters), FormatVersion="aws_v1"
        )
        return [str(text) for page in pages for text in page["PriceList"]]
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise PermanentError(
            f"AWS prices: no credentials: {error}",
            hint=f"Give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role. {_SETTINGS_HINT}",
        ) from error
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= 500 or "Throttl" in code:
            raise SourceUnavailableError(f"AWS prices: {error}") from error
        raise PermanentError(
            f"AWS prices: {error}",
            hint=f"The role needs `pricing:GetProducts`. {_SETTINGS_HINT}",
        ) from error
    except BotoCoreError as error:
        raise SourceUnavailableError(f"AWS prices: {error}") from error


def hourly_prices(product: str) -> list[float]:
    """Prices of an hour on demand in a product as the API writes it.

    Terms without a price (free tiers, reservations) are left out.

    Raises:
        PermanentError: the text is no product.
    """
    try:
        terms = json.loads(product)["terms"].get("OnDemand", {})
        dimensions = [
            dimension
            for term in terms.values()
            for dimension in term["priceDimensions"].values()
            if dimension["unit"] == "Hrs"
        ]
        prices = [float(one["pricePerUnit"][CURRENCY]) for one in dimensions]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PermanentError(
            f"AWS prices: a product cannot be understood: {error!r}", hint=_SETTINGS_HINT
        ) from error
    return [price for price in prices if price > 0 and math.isfinite(price)]
