"""Questions to the running Dagster webserver, over its GraphQL endpoint; standard library only."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

from fleet.errors import PermanentError, TransientError


class WebserverClient:
    """One webserver. Every call may raise TransientError: it does not answer (yet)."""

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        """Name the webserver, such as `http://127.0.0.1:3000`."""
        self.url = url
        self.timeout_s = timeout_s
        # a proxy of the environment is for the world outside, not for this machine's own UI
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def query(self, text: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """Answer one GraphQL query or mutation.

        Raises:
            TransientError: the webserver cannot be reached or does not answer in time.
            PermanentError: it refuses the query.
        """
        body = json.dumps({"query": text, "variables": variables or {}}).encode()
        request = urllib.request.Request(  # noqa: S310 - the URL is our own webserver's
            f"{self.url}/graphql", body, {"Content-Type": "application/json"}
        )
        try:
            with self._opener.open(request, timeout=self.timeout_s) as reply:
                answer = json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode(errors="replace")[:500]
            raise PermanentError(f"the UI refuses a query: HTTP {error.code}: {said}") from error
        except (OSError, HTTPException, ValueError) as error:
            raise TransientError(
                f"the UI at {self.url} does not answer: {error}",
                hint="`stateroom status` says whether the fleet is running.",
            ) from error
        if answer.get("errors"):
            raise PermanentError(f"the UI refuses a query: {answer['errors'][0]['message']}")
        data: dict[str, Any] = answer["data"]
        return data

    def version(self) -> str:
        """Dagster's version, as soon as the webserver answers."""
        return str(self.query("{version}")["version"])

    def location_problem(self, location: str) -> str | None:
        """None when the code location is loaded, else what is the matter."""
        data = self.query(_LOCATIONS)
        found = data["workspaceOrError"]
        if found["__typename"] != "Workspace":
            return str(found.get("message"))
        for entry in found["locationEntries"]:
            if entry["name"] == location:
                loaded = entry["locationOrLoadError"]
                if entry["loadStatus"] != "LOADED" or loaded is None:
                    return "loading"
                if loaded["__typename"] == "PythonError":
                    return str(loaded["message"]).strip()
                return None
        return f"no code location {location}"

    def daemons(self) -> list[dict[str, Any]]:
        """Status of each daemon: `daemonType`, `required`, `healthy`, `lastHeartbeatTime`."""
        data = self.query(_DAEMONS)
        statuses: list[dict[str, Any]] = data["instance"]["daemonHealth"]["allDaemonStatuses"]
        return statuses

    def newest_sensor_tick(self, location: str) -> tuple[int, float | None]:
        """How many sensors run, and the Unix time of the newest tick of any (None: no tick yet)."""
        data = self.query(
            _SENSORS,
            {"at": {"repositoryName": "__repository__", "repositoryLocationName": location}},
        )
        sensors = data["sensorsOrError"].get("results", [])
        running = [s for s in sensors if s["sensorState"]["status"] == "RUNNING"]
        ticks = [tick["timestamp"] for s in running for tick in s["sensorState"]["ticks"]]
        return len(running), max(ticks, default=None)

    def launch_job(
        self, location: str, job: str, run_config: dict[str, Any], tags: dict[str, str]
    ) -> str:
        """Launch a job as the UI would; returns the run's id.

        Raises:
            PermanentError: Dagster refuses it; with its message.
        """
        parameters = {
            "selector": {
                "repositoryLocationName": location,
                "repositoryName": "__repository__",
                "jobName": job,
            },
            "runConfigData": run_config,
            "mode": "default",
            "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in tags.items()]},
        }
        found = self.query(_LAUNCH, {"parameters": parameters})["launchRun"]
        if found["__typename"] != "LaunchRunSuccess":
            said = found.get("message") or found.get("errors") or found["__typename"]
            raise PermanentError(f"Dagster refuses to launch {job}: {said}")
        return str(found["run"]["runId"])

    def run_status(self, run_id: str) -> str:
        """`QUEUED`, `STARTED`, `SUCCESS`, `FAILURE`, `CANCELED`, ..."""
        return str(self.query(_RUN, {"id": run_id})["runOrError"]["status"])


_LOCATIONS = """{workspaceOrError{__typename
  ... on PythonError{message}
  ... on Workspace{locationEntries{name loadStatus locationOrLoadError{__typename
    ... on PythonError{message}}}}}}"""
_DAEMONS = """{instance{daemonHealth{allDaemonStatuses{
  daemonType required healthy lastHeartbeatTime}}}}"""
_SENSORS = """query($at: RepositorySelector!){sensorsOrError(repositorySelector: $at){
  ... on Sensors{results{name sensorState{status ticks(limit: 1){timestamp status}}}}}}"""
_LAUNCH = """mutation($parameters: ExecutionParams!){launchRun(executionParams: $parameters){
  __typename
  ... on LaunchRunSuccess{run{runId}}
  ... on PythonError{message}
  ... on RunConfigValidationInvalid{errors{message}}
  ... on InvalidSubsetError{message}
  ... on PipelineNotFoundError{message}
  ... on UnauthorizedError{message}}}"""
_RUN = """query($id: ID!){runOrError(runId: $id){__typename ... on Run{status}
  ... on RunNotFoundError{message}}}"""
