"""Route 53's own rules where moto's server is lenient, in front of a real client of it.

AWS refuses a batch whose DELETE does not match the record set as it stands, or whose CREATE meets
one that exists (API reference, ChangeResourceRecordSets: InvalidChangeBatch); moto looks only at
what was ever written. The texts are AWS's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError


class StrictRoute53:
    """A client that checks each batch against the zone, and then passes it on."""

    def __init__(self, client: Any) -> None:
        """Stand before `client`."""
        self._client = client
        self.before_change: Callable[[], None] | None = None
        """Called once before the next batch: somebody else was faster."""
        self.batches: list[list[dict[str, Any]]] = []

    def list_resource_record_sets(self, **arguments: Any) -> Any:
        """As it is."""
        return self._client.list_resource_record_sets(**arguments)

    def change_resource_record_sets(self, **arguments: Any) -> Any:
        """Refuse what AWS refuses."""
        hook, self.before_change = self.before_change, None
        if hook is not None:
            hook()
        changes = arguments["ChangeBatch"]["Changes"]
        self.batches.append(changes)
        zone = self._client.list_resource_record_sets(HostedZoneId=arguments["HostedZoneId"])
        there = {_place(record): record for record in zone["ResourceRecordSets"]}
        for change in changes:
            record, action = change["ResourceRecordSet"], change["Action"]
            found = there.get(_place(record))
            shown = f"[name='{record['Name']}', type='{record['Type']}']"
            if action == "DELETE" and found is None:
                _refuse(f"Tried to delete resource record set {shown} but it was not found")
            if action == "DELETE" and found != record:
                _refuse(
                    f"Tried to delete resource record set {shown} but the values provided do not "
                    "match the current values"
                )
            if action == "CREATE" and found is not None:
                _refuse(f"Tried to create resource record set {shown} but it already exists")
            if action == "DELETE":
                del there[_place(record)]
            else:
                there[_place(record)] = record
        return self._client.change_resource_record_sets(**arguments)


def _place(record: dict[str, Any]) -> tuple[str, str, str]:
    return record["Name"], record["Type"], record.get("SetIdentifier", "")


def _refuse(text: str) -> None:
    raise ClientError(
        {
            "Error": {"Code": "InvalidChangeBatch", "Message": f"[{text}]"},
            "ResponseMetadata": {"HTTPStatusCode": 400},
        },
        "ChangeResourceRecordSets",
    )
