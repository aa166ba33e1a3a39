"""The AWS Price List Query API on loopback, as far as `GetProducts` goes.

Not moto's: moto has no pricing service. Source: AWS Price List Query API (AWS JSON 1.1, target
`AWSPriceListService.GetProducts`); products as the bulk offer files have them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAGE = 2
"""Products of one page: small, so that pages are followed."""


def product(instance_type: str, region: str, price: str, unit: str = "Hrs", **more: str) -> Any:
    """A product with one on-demand price, and a reservation that must not be taken for it."""
    attributes = {
        "instanceType": instance_type,
        "regionCode": region,
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        **more,
    }
    dimension = {"unit": unit, "pricePerUnit": {"USD": price}, "description": "on demand"}
    reserved = {"unit": "Quantity", "pricePerUnit": {"USD": "1234.5"}}
    return {
        "product": {"productFamily": "Compute Instance", "attributes": attributes},
        "serviceCode": "AmazonEC2",
        "terms": {
            "OnDemand": {"SKU.OFFER": {"priceDimensions": {"SKU.OFFER.RATE": dimension}}},
            "Reserved": {"SKU.OTHER": {"priceDimensions": {"SKU.OTHER.RATE": reserved}}},
        },
    }


class PriceListServer(ThreadingHTTPServer):
    """Answers by filter, page by page; `failure` makes it answer an error instead."""

    products: list[Any]
    failure: tuple[int, str] | None = None
    requests: list[dict[str, Any]]


class _Handler(BaseHTTPRequestHandler):
    server: PriceListServer

    def do_POST(self) -> None:
        """One call."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = json.loads(body)
        self.server.requests.append(asked)
        signed = self.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256")
        target = self.headers["X-Amz-Target"]
        if self.server.failure is not None:
            status, code = self.server.failure
            self._answer(status, {"__type": code, "message": "told to fail"})
        elif not signed or target != "AWSPriceListService.GetProducts":
            self._answer(400, {"__type": "InvalidParameterException", "message": target})
        else:
            self._answer(200, self._found(asked))

    def _found(self, asked: dict[str, Any]) -> dict[str, Any]:
        wanted = {one["Field"]: one["Value"] for one in asked["Filters"]}
        fitting = [
            json.dumps(one)
            for one in self.server.products
            if wanted.items() <= one["product"]["attributes"].items()
        ]
        begin = int(asked.get("NextToken", 0))
        page = {"FormatVersion": "aws_v1", "PriceList": fitting[begin : begin + PAGE]}
        if begin + PAGE < len(fitting):
            page["NextToken"] = str(begin + PAGE)
        return page

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Say nothing."""


@contextmanager
def price_list_server(*products: Any) -> Iterator[tuple[PriceListServer, str]]:
    """The server and its URL; it is always ended."""
    server = PriceListServer(("127.0.0.1", 0), _Handler)
    server.products, server.requests = list(products), []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
