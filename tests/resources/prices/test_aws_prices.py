"""AWS prices through boto3, over real HTTP against a server that speaks the Price List API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from fleet.costs.prices import QuotedPrice
from fleet.costs.quotes import PriceQuestion
from fleet.errors import NotFoundError, PermanentError, SourceUnavailableError
from resources.prices.aws_prices import AwsPriceSource, hourly_prices
from tests.servers.moto_server import aws_environment
from tests.servers.price_list import PriceListServer, price_list_server, product

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LARGE = PriceQuestion("us-west-2", "m7i.large")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PriceListServer, str]]:
    """Prices of two instance types in two regions, and credentials to ask for them."""
    products = [
        product("m7i.large", "us-west-2", "0.1008"),
        product("m7i.large", "us-west-2", "0.1928", operatingSystem="Windows"),
        product("m7i.large", "eu-central-1", "0.1218"),
        *(product("p5.48xlarge", "us-west-2", price) for price in ("0.0", "0.0", "98.32")),
    ]
    with price_list_server(*products) as (opened, url):
        for name, value in aws_environment(url).items():
            if name != "AWS_ENDPOINT_URL":
                monkeypatch.setenv(name, value)
        yield opened, url


def test_each_question_is_answered_with_the_on_demand_price_of_an_hour(
    server: tuple[PriceListServer, str],
) -> None:
    """Other systems, reservations and free terms are not taken for it; pages are followed."""
    opened, url = server
    questions = [LARGE, PriceQuestion("us-west-2", "p5.48xlarge")]
    assert AwsPriceSource(url).quotes(questions, NOW) == [
        QuotedPrice("us-west-2", "m7i.large", 0.1008, "USD", NOW),
        QuotedPrice("us-west-2", "p5.48xlarge", 98.32, "USD", NOW),
    ]
    assert [asked.get("NextToken") for asked in opened.requests] == [None, None, "2"]
    assert AwsPriceSource(url).quotes([], NOW) == []
    assert len(opened.requests) == 3


def test_what_is_not_sold_or_not_clear_is_named(server: tuple[PriceListServer, str]) -> None:
    """With the setting to look at; two prices are never chosen between."""
    opened, url = server
    with pytest.raises(
        NotFoundError, match=r"no on-demand price for x9\.huge in us-west-2"
    ) as none:
        AwsPriceSource(url).quotes([PriceQuestion("us-west-2", "x9.huge")], NOW)
    assert "instance_type" in none.value.hint
    opened.products.append(product("m7i.large", "us-west-2", "0.2"))
    with pytest.raises(PermanentError, match="2 on-demand prices"):
        AwsPriceSource(url).quotes([LARGE], NOW)


@pytest.mark.parametrize(
    ("failure", "expected", "said"),
    [
        ((400, "AccessDeniedException"), PermanentError, "AccessDenied"),
        ((503, "InternalErrorException"), SourceUnavailableError, "InternalError"),
        ((400, "ThrottlingException"), SourceUnavailableError, "Throttling"),
    ],
)
def test_refusals_are_permanent_and_outages_are_not(
    server: tuple[PriceListServer, str],
    monkeypatch: pytest.MonkeyPatch,
    failure: tuple[int, str],
    expected: type[Exception],
    said: str,
) -> None:
    """Retried by boto3 first, without its delays here."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    opened, url = server
    opened.failure = failure
    with pytest.raises(expected, match=said) as caught:
        AwsPriceSource(url).quotes([LARGE], NOW)
    assert caught.value.__cause__ is not None


def test_without_credentials_the_error_says_what_to_give(
    server: tuple[PriceListServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And how to do without."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(PermanentError, match="no credentials") as caught:
        AwsPriceSource(server[1]).quotes([LARGE], NOW)
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    assert "aws_prices = false" in caught.value.hint


def test_a_server_that_does_not_answer_is_an_outage(
    server: tuple[PriceListServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens on port 1 of loopback."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    with pytest.raises(SourceUnavailableError):
        AwsPriceSource("http://127.0.0.1:1", timeout_s=2).quotes([LARGE], NOW)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"terms": {"OnDemand": {"a": {}}}}'])
def test_what_is_no_product_is_refused(text: str) -> None:
    """Rather than priced at nothing."""
    with pytest.raises(PermanentError, match="cannot be understood"):
        hourly_prices(text)
