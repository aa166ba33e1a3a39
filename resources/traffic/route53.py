"""Routes as DNS records in Route 53: per region one weighted record set of addresses.

`<service>.<domain>` has for each region an A (and AAAA) record set with the region as its
identifier, all its addresses, and a weight in proportion to what the region can take; ports are
agreed upon elsewhere, as always in DNS. A TXT record of the same name holds (term, revision) and a
number that rises with each write. Every change is one batch, which Route 53 applies as a whole: it
deletes the TXT record *as it was read* and creates the new one, so that of two writers the second
is refused, reads again and is judged again.

Source: Route 53 API reference, ChangeResourceRecordSets: a DELETE must match all values, a batch
holds at most 1,000 ResourceRecords (an UPSERT counts twice), a set 400 values.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any

from fleet.errors import InvalidInputError, PermanentError, TrafficUnavailableError
from fleet.ports.traffic import RouteResult
from fleet.routes import Backend, LiveRoutes, RouteTable, judge_table, validate_tables
from fleet.service_weights import WEIGHT_MAX, WEIGHT_MIN

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_FENCE = re.compile(r'"stateroom term=([0-9]+) revision=([0-9]+) write=([0-9]+)"')
_VALUES_MAX = 400
_BATCH_MAX = 1000
_ATTEMPTS = 5
"""Times that a batch is read and judged again because somebody else wrote in between."""

Change = dict[str, Any]


def open_route53_client(
    *, endpoint_url: str | None = None, timeout_s: float = 10.0, **credentials: str
) -> Any:
    """A boto3 client with bounded waits.

    Args:
        endpoint_url: of something other than AWS.
        timeout_s: for a connection, and of silence.
        credentials: `aws_access_key_id`, ... where the default chain is not wanted.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=timeout_s,
        read_timeout=timeout_s,
        retries={"total_max_attempts": 3, "mode": "standard"},
    )
    return boto3.client(
        "route53", endpoint_url=endpoint_url, region_name="us-east-1", config=config, **credentials
    )


class Route53Router:
    """`fleet.ports.traffic.TrafficRouter` on a hosted zone.

    Args:
        client: a boto3 Route 53 client; the caller closes it.
        zone_id: of the hosted zone.
        domain: below which the services are named, for example `svc.example.com`.
        ttl_s: of the records: how long resolvers keep an answer.
    """

    name = "route53"

    def __init__(self, client: Any, zone_id: str, domain: str, *, ttl_s: int = 60) -> None:
        """Remember where; nothing is asked before the first call."""
        if not 1 <= ttl_s <= 86400:
            raise InvalidInputError("ttl_s", ttl_s, "1 to 86400 seconds")
        self._client = client
        self._zone_id = zone_id
        self._domain = domain.strip(".")
        self._ttl_s = ttl_s

    def apply_routes(self, tables: Sequence[RouteTable]) -> list[RouteResult]:
        """One batch of changes for each service."""
        validate_tables(tables)
        return [self._apply(table) for table in tables]

    def live_routes(self, service: str) -> LiveRoutes | None:
        """What the zone holds; None when the service was never applied."""
        records = self._records(service)
        fence = _fence(records)
        if fence is None:
            return None
        found = {
            value["Value"]
            for record in records
            if record["Type"] in {"A", "AAAA"}
            for value in record["ResourceRecords"]
        }
        return LiveRoutes(service, *fence, tuple(sorted(found)))

    def _apply(self, table: RouteTable) -> RouteResult:
        try:
            return self._swap(table, self._wanted(table))
        except InvalidInputError as error:
            return RouteResult(table.service, changed=False, error=error)

    def _swap(self, table: RouteTable, wanted: list[Change]) -> RouteResult:
        """Read, judge and change until nobody interferes."""
        for _ in range(_ATTEMPTS):
            records = self._records(table.service)
            refused = judge_table(table, _fence(records))
            if refused is not None:
                return RouteResult(table.service, changed=False, error=refused)
            changes, changed = self._changes(table, records, wanted)
            if not changes or self._change(table, changes):
                return RouteResult(table.service, changed=changed, error=None)
        raise TrafficUnavailableError(
            f"records of {table.service} were changed by others {_ATTEMPTS} times in a row",
            hint="Apply the routes again.",
        )

    def _wanted(self, table: RouteTable) -> list[Change]:
        """The record sets of a table: one per region and family.

        Raises:
            InvalidInputError: DNS cannot hold it.
        """
        if _LABEL.fullmatch(table.service) is None:
            raise InvalidInputError(
                "service", table.service, "a DNS label: small letters, digits and '-'"
            )
        name = self._name(table.service)
        regions: dict[str, list[Backend]] = {}
        for backend in table.backends:
            regions.setdefault(backend.region, []).append(backend)
        weights = {key: sum(one.weight for one in found) for key, found in regions.items()}
        largest = max(weights.values(), default=1)
        sets: list[Change] = []
        for region in sorted(regions):
            weight = max(WEIGHT_MIN, round(WEIGHT_MAX * weights[region] / largest))
            for kind, addresses in _families(regions[region]).items():
                sets.append(
                    self._set(name, kind, sorted(addresses))
                    | {"SetIdentifier": region, "Weight": weight}
                )
        return sets

    def _set(self, name: str, kind: str, values: list[str]) -> Change:
        if len(values) > _VALUES_MAX:
            raise InvalidInputError(
                f"{kind} addresses of a region",
                len(values),
                f"up to {_VALUES_MAX}",
                hint="Register a balancer per region instead of every agent.",
            )
        records = [{"Value": value} for value in values]
        return {"Name": name, "Type": kind, "TTL": self._ttl_s, "ResourceRecords": records}

    def _records(self, service: str) -> list[Change]:
        """All record sets of the service's name."""
        name = self._name(service)
        found: list[Change] = []
        start: dict[str, str] = {"StartRecordName": name}
        while start:
            answer = self._call(
                "list_resource_record_sets", HostedZoneId=self._zone_id, MaxItems="300", **start
            )
            page = [one for one in answer["ResourceRecordSets"] if one["Name"] == name]
            found += page
            start = {}
            if answer["IsTruncated"] and len(page) == len(answer["ResourceRecordSets"]):
                start = {
                    f"Start{key}": answer[f"Next{key}"]
                    for key in ("RecordName", "RecordType", "RecordIdentifier")
                    if f"Next{key}" in answer
                }
        return found

    def _changes(
        self, table: RouteTable, records: list[Change], wanted: list[Change]
    ) -> tuple[list[Change], bool]:
        """The batch from what is there to what should be, and whether more than the fence differs.

        Raises:
            InvalidInputError: the TXT record of that name is somebody else's.
        """
        there = {_key(record): record for record in records}
        here = {_key(record): record for record in wanted}
        changes = [
            {"Action": "DELETE", "ResourceRecordSet": record}
            for key, record in there.items()
            if key[0] in {"A", "AAAA"} and key not in here
        ]
        changes += [
            {"Action": "UPSERT", "ResourceRecordSet": record}
            for key, record in here.items()
            if not _is_same(record, there.get(key))
        ]
        if not changes and _fence(records) == table.fence:
            return [], False
        old = there.get(("TXT", ""))
        fence = f'"stateroom term={table.term} revision={table.revision} write={_writes(records)}"'
        new = self._set(self._name(table.service), "TXT", [fence])
        swap = [{"Action": "CREATE", "ResourceRecordSet": new}]
        if old is not None and _written([old]) is None:
            raise InvalidInputError(
                f"TXT record {new['Name']}",
                [value["Value"] for value in old["ResourceRecords"]],
                "none, or one written by Stateroom",
                hint="Choose a domain that Stateroom has for itself.",
            )
        if old is not None:
            swap.insert(0, {"Action": "DELETE", "ResourceRecordSet": old})
        return [*swap, *changes], bool(changes)

    def _change(self, table: RouteTable, changes: list[Change]) -> bool:
        """Apply a batch; False when the zone has changed since it was read."""
        size = sum(
            len(change["ResourceRecordSet"]["ResourceRecords"])
            * (2 if change["Action"] == "UPSERT" else 1)
            for change in changes
        )
        if size > _BATCH_MAX:
            raise InvalidInputError(
                f"records of {table.service}",
                size,
                f"up to {_BATCH_MAX} in a batch (an UPSERT counts twice)",
                hint="Register a balancer per region instead of every agent.",
            )
        batch = {"Comment": f"stateroom {table.service}", "Changes": changes}
        answer = self._call(
            "change_resource_record_sets", HostedZoneId=self._zone_id, ChangeBatch=batch
        )
        return answer is not None

    def _call(self, method: str, **arguments: Any) -> Any:
        """Call the API; None for a batch that no longer matches the zone.

        Raises:
            TrafficUnavailableError: no answer, throttled, or an earlier change is not through.
            PermanentError: refused.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client, method)(**arguments)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code"))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code == "InvalidChangeBatch" and _is_race(str(error)):
                return None
            message = f"Route 53 zone {self._zone_id}: {error}"
            if status >= 500 or code in {
                "Throttling",
                "ThrottlingException",
                "PriorRequestNotComplete",
            }:
                raise TrafficUnavailableError(message, hint="Apply the routes again.") from error
            raise PermanentError(
                message, hint="Check the zone's id, the domain and the permissions."
            ) from error
        except BotoCoreError as error:
            raise TrafficUnavailableError(
                f"Route 53 does not answer ({error})", hint="Check the network and credentials."
            ) from error

    def _name(self, service: str) -> str:
        return f"{service}.{self._domain}."


def _is_race(text: str) -> bool:
    """Whether a batch was refused because the zone is not as it was read."""
    return "not found" in text or "do not match" in text or "already exists" in text


def _key(record: Change) -> tuple[str, str]:
    return str(record["Type"]), str(record.get("SetIdentifier", ""))


def _is_same(wanted: Change, there: Change | None) -> bool:
    if there is None:
        return False
    values = sorted(value["Value"] for value in there["ResourceRecords"])
    return (
        sorted(value["Value"] for value in wanted["ResourceRecords"]) == values
        and wanted.get("Weight") == there.get("Weight")
        and wanted["TTL"] == there["TTL"]
    )


def _written(records: list[Change]) -> tuple[int, int, int] | None:
    """Term, revision and number of the last write."""
    texts = [
        one for record in records if record["Type"] == "TXT" for one in record["ResourceRecords"]
    ]
    for text in texts:
        match = _FENCE.fullmatch(text["Value"])
        if match is not None:
            return int(match[1]), int(match[2]), int(match[3])
    return None


def _fence(records: list[Change]) -> tuple[int, int] | None:
    written = _written(records)
    return None if written is None else written[:2]


def _writes(records: list[Change]) -> int:
    """Number of the next write: no two TXT records are ever alike."""
    written = _written(records)
    return 1 if written is None else written[2] + 1


def _families(backends: list[Backend]) -> dict[str, set[str]]:
    """Distinct addresses by record type."""
    found: dict[str, set[str]] = {}
    for backend in backends:
        try:
            version = ipaddress.ip_address(backend.address).version
        except ValueError as error:
            raise InvalidInputError(
                f"address of {backend.agent_id}", backend.address, "an IP address"
            ) from error
        found.setdefault("A" if version == 4 else "AAAA", set()).add(backend.address)
    return found
