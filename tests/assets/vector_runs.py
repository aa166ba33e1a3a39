"""Embeddings and indexes behind the real definitions: a store in memory, vectors in a folder."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from fleet.agents import Note
from fleet.vectors.declaration import NetworkVectors, VectorDeclaration
from fleet.vectors.records import VectorPolicy
from ops.vector_jobs import BUILD_JOB
from platform_defs.build_vectors import build_vectors
from resources.vectors.network_indexes import NetworkIndexes
from sensors.vectors import build_refresh_sensor
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore

TEXTS = (
    "disk sda was busy: 95 % of the time in use",
    "memory is nearly full, swapping has begun",
    "network traffic was quiet all night",
    "the processor ran hot under a load of eight",
)


class VectorRuns:
    """Two networks; `net` has what the policy of the test says."""

    def __init__(
        self, folder: Path, instance: dg.DagsterInstance, policy: VectorPolicy | None = None
    ) -> None:
        """Nothing is noted yet."""
        self.clock = ManualClock()
        self.instance = instance
        self.store = InMemoryControlStore(self.clock)
        self.declaration = VectorDeclaration(
            path=str(folder / "vectors"),
            copies_path=str(folder / "copies"),
            networks=(
                NetworkVectors(network_id="net", policy=policy or VectorPolicy(), gpu="off"),
                NetworkVectors(network_id="quiet", gpu="off"),
            ),
        )
        self.indexes = NetworkIndexes(self.declaration, self.clock, threads=1)
        self.definitions = build_vectors(self.declaration)
        self.resources: dict[str, Any] = {
            "clock": self.clock,
            "control_store": self.store,
            "network_indexes": self.indexes,
            "vector_declaration": self.declaration,
        }

    def jobs(self) -> dg.Definitions:
        """The definitions over this world."""
        return dg.Definitions(
            assets=self.definitions.assets,
            asset_checks=self.definitions.checks,
            jobs=self.definitions.jobs,
            sensors=self.definitions.sensors,
            schedules=self.definitions.schedules,
            resources=self.resources,
            executor=dg.in_process_executor,
        )

    def note(self, *texts: str, network: str = "net", first: int = 0) -> list[Note]:
        """Agents note something."""
        notes = [
            Note(
                f"{network}-{first + number:05d}",
                f"agent-{number % 3}",
                network,
                self.clock.now() + timedelta(milliseconds=number),
                text,
            )
            for number, text in enumerate(texts)
        ]
        self.store.append_notes(notes)
        return notes

    def run(self, job: str = BUILD_JOB, partition: str | None = "net") -> dg.ExecuteInProcessResult:
        """Execute a job here."""
        return (
            self.jobs()
            .resolve_job_def(job)
            .execute_in_process(
                instance=self.instance, partition_key=partition, raise_on_error=False
            )
        )

    def tick(self) -> dg.SensorResult | dg.SkipReason:
        """One look of the sensor."""
        sensor = build_refresh_sensor(running=True)
        found = sensor(dg.build_sensor_context(instance=self.instance, resources=self.resources))
        assert isinstance(found, dg.SensorResult | dg.SkipReason)
        return found

    def found(self, text: str) -> list[str]:
        """Texts that a search of `net` finds, best first."""
        answer = self.indexes.searcher("net").search(text, 3)
        return [hit.text for hit in answer.hits]


def metadata_of(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """Metadata of what a run materialized of an asset."""
    (told,) = [
        event.step_materialization_data.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(asset)
    ]
    return {name: value.value for name, value in told.metadata.items()}


def checked(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """The verdicts of a run by claim."""
    return {one.check_name: one for one in result.get_asset_check_evaluations()}
