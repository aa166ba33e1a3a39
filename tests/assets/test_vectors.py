"""Notes become embeddings, embeddings an index; what is told of it, also when it fails."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from typing import Any

import dagster as dg
import pytest

from assets.vector_checks import CONTENT_CLAIMS, STANDING_CLAIMS
from fleet.errors import LeaseLostError, RecallTooLowError, StoreUnavailableError
from fleet.ports.note_store import NoteBacklog
from fleet.vectors.refresh_due import AGAIN_S
from fleet.vectors.standing import RefreshResult, lease_name
from ops.embeddings import EmbeddingPorts, embed_notes
from ops.index_lease import building
from ops.vector_health import HEALTH, look_at_health, remove_old
from ops.vector_jobs import BUILD_JOB, EMBED_JOB, EMBEDDINGS, INDEX, SCRUB_JOB, UPKEEP_JOB
from resources.vectors.building import IndexBuilder
from resources.vectors.network_indexes import NetworkIndexes
from tests.assets.vector_runs import TEXTS, VectorRuns, checked, metadata_of
from tests.fakes.control_store import InMemoryControlStore


@pytest.fixture
def runs(tmp_path: Path, instance: dg.DagsterInstance) -> VectorRuns:
    """Two networks without a note."""
    return VectorRuns(tmp_path, instance)


def requests_of(found: dg.SensorResult | dg.SkipReason) -> list[dg.RunRequest]:
    """Runs that a tick asks for."""
    return list(found.run_requests or []) if isinstance(found, dg.SensorResult) else []


def test_a_note_is_found_after_the_run_that_the_sensor_asks_for(runs: VectorRuns) -> None:
    """Gathered for half a minute, asked for once, embedded, indexed, told in numbers that plot."""
    assert runs.tick().skip_message == "no network has a note"
    runs.note(*TEXTS)
    assert requests_of(runs.tick()) == []
    runs.clock.advance(31)
    (request,) = requests_of(runs.tick())
    assert (request.job_name, request.partition_key) == (BUILD_JOB, "net")
    assert [one.run_key for one in requests_of(runs.tick())] == [request.run_key]
    result = runs.run()
    assert result.success
    assert runs.found("disk was busy")[0] == TEXTS[0]
    assert requests_of(runs.tick()) == []
    told = metadata_of(result, INDEX)
    assert (told["ntotal"], told["dagster/row_count"], told["action"]) == (4, 4, "rebuild")
    assert told["recall"] == 1.0
    assert told["size_bytes"] > 4 * 256 * 4
    assert 30.9 < told["age_s"] < 31.1
    assert {"dead_share", "build_s", "recall_low", "recall_high"} <= told.keys()
    assert "there is no index yet: 4 new" in told["reasons"]
    assert metadata_of(result, EMBEDDINGS)["notes_embedded"] == 4
    assert {name: one.passed for name, one in checked(result).items()} == dict.fromkeys(
        STANDING_CLAIMS, True
    )


def test_only_what_changed_is_embedded_and_what_was_removed_is_not_found(
    runs: VectorRuns,
) -> None:
    """The second run reads the changes since the first, deletions included."""
    runs.note(*TEXTS)
    assert runs.run().success
    runs.note("the disk is idle again", first=9)
    runs.store.remove_note("net-00000")
    result = runs.run()
    told = metadata_of(result, EMBEDDINGS)
    assert (told["notes_embedded"], told["notes_removed"]) == (1, 1)
    assert metadata_of(result, INDEX)["action"] == "update"
    assert TEXTS[0] not in runs.found("disk was busy")
    assert "the disk is idle again" in runs.found("disk was busy")
    third = runs.run()
    assert metadata_of(third, INDEX)["action"] == "nothing"
    assert metadata_of(third, EMBEDDINGS)["notes_embedded"] == 0


@pytest.mark.parametrize("step", range(13))
def test_embedding_can_be_killed_at_any_commit_and_embeds_no_note_twice(
    runs: VectorRuns, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Killed before or behind an append or a move of the standing, then run once more."""
    monkeypatch.setattr("ops.embeddings.PAGE_NOTES", 3)
    notes = runs.note(*(f"note number {number} about disks" for number in range(8)))
    ports = EmbeddingPorts(runs.store, runs.indexes.store, runs.indexes.embedder("net"), runs.clock)
    expected = contextlib.nullcontext() if step == 12 else pytest.raises(KilledError)
    with expected, building(runs.store, "net") as lease:
        embed_notes(dying(ports, step), "net", lease.demand_term)
    with building(runs.store, "net") as lease:
        done = embed_notes(ports, "net", lease.demand_term)
    assert done.standing.embedded_change == 8
    model = ports.embedder.model
    stored = [
        note_id
        for batch in ports.vectors.batches("net", model)
        for note_id in ports.vectors.read(batch, model).column("note_id").to_pylist()
    ]
    assert sorted(stored) == [one.note_id for one in notes]
    assert done.standing.sequence == len(ports.vectors.batches("net", model))


class KilledError(Exception):
    """The process ends here."""


def dying(ports: EmbeddingPorts, calls: int) -> EmbeddingPorts:
    """The same world, whose process ends at one of its commits: even before it, odd behind it."""
    left = [calls]

    class Dying:
        def __init__(self, port: Any, commits: tuple[str, ...]) -> None:
            self.port, self.commits = port, commits

        def __getattr__(self, name: str) -> Any:
            found = getattr(self.port, name)
            return self.killed(found) if name in self.commits else found

        def killed(self, call: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any, **kwargs: Any) -> Any:
                left[0] -= 2
                if left[0] == -2:
                    raise KilledError
                found = call(*args, **kwargs)
                if left[0] == -1:
                    raise KilledError
                return found

            return run

    return ports._replace(
        notes=Dying(ports.notes, ("change_index_standing",)),
        vectors=Dying(ports.vectors, ("append",)),
    )


def test_a_lost_vector_store_and_another_model_are_read_from_the_beginning(
    runs: VectorRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The positions are beside the notes; the batches say whether they can still be believed."""
    runs.note(*TEXTS)
    assert runs.run().success
    for one in runs.indexes.objects.list_objects("embeddings/"):
        runs.indexes.objects.delete([one.key])
    told = metadata_of(runs.run(EMBED_JOB), EMBEDDINGS)
    assert (told["notes_embedded"], told["sequence"]) == (4, 1)
    assert "1 batches of embeddings were written, 0 are left" in told["read_from_the_beginning"]
    embedder = runs.indexes.embedder("net")
    other = embedder.model._replace(revision="f" * 64)

    class Newer:
        model = other

        def embed(self, texts: list[str]) -> Any:
            return embedder.embed(texts)

    monkeypatch.setattr(NetworkIndexes, "embedder", lambda *_: Newer())
    result = runs.run()
    assert "the model was" in metadata_of(result, EMBEDDINGS)["read_from_the_beginning"]
    assert "made with model" in metadata_of(result, INDEX)["reasons"]


def test_an_index_that_finds_too_little_is_not_published_and_every_place_says_why(
    tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run fails, the check is an error, the standing counts it; the next try waits."""
    runs = VectorRuns(tmp_path, instance)
    runs.note(*TEXTS)
    assert runs.run().success
    before = runs.indexes.store.current("net")
    runs.note("a new note", first=9)
    monkeypatch.setattr(IndexBuilder, "refresh", refuse)
    result = runs.run()
    assert not result.success
    assert runs.indexes.store.current("net") == before
    standing = runs.store.index_standing("net")
    assert (standing.result, standing.results) == (
        RefreshResult.REFUSED,
        {"published": 1, "refused": 1},
    )
    verdict = checked(runs.run(UPKEEP_JOB, None))["every_index_finds_what_it_should"]
    assert not verdict.passed
    assert verdict.severity is dg.AssetCheckSeverity.ERROR
    assert "recall@10 0.9000" in (verdict.description or "")
    runs.clock.advance(60)
    assert requests_of(runs.tick()) == []
    runs.clock.advance(AGAIN_S)
    assert len(requests_of(runs.tick())) == 1


def refuse(builder: IndexBuilder, *_: object, **__: object) -> None:
    """As a rebuild ends whose best parameters find too little."""
    raise RecallTooLowError("index HNSW28,SQ8 is not good enough: best is recall@10 0.9000")


def test_a_run_waits_for_the_builder_before_it(runs: VectorRuns) -> None:
    """Upkeep and a refresh that meet are no failure."""
    runs.note(*TEXTS)
    with contextlib.ExitStack() as held:
        held.enter_context(building(runs.store, "net"))
        other = Timer(1.0, held.close)
        other.start()
        result = runs.run()
        other.join()
    assert result.success


def test_two_builders_at_once_one_wins_and_the_other_changes_nothing(
    runs: VectorRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A live lease keeps the second out; a builder whose lease was taken over is fenced."""
    monkeypatch.setattr("ops.index_lease.WAIT_S", 0.0)
    runs.note(*TEXTS)
    runs.clock.advance(31)
    with building(runs.store, "net") as lease:
        result = runs.run()
        assert not result.success
        assert runs.indexes.store.current("net") is None
        assert "is at it" in (runs.tick().skip_message or "")
        late = lease.demand_term()
    assert runs.run().success
    holder = runs.store.lease(lease_name("net"))
    assert holder is not None
    assert holder.term > late
    with pytest.raises(LeaseLostError, match="term"):
        runs.store.change_index_standing("net", lambda one: one._replace(sequence=0), late)
    model = runs.indexes.embedder("net").model
    runs.note("one more", first=8)
    assert runs.run(EMBED_JOB).success
    with pytest.raises(LeaseLostError):
        runs.indexes.builder("net").refresh("net", model, fence=late)


def test_damage_orphans_and_missing_notes_are_found_by_looking(runs: VectorRuns) -> None:
    """The claims pass on what is sound, and fail when a byte or a row goes behind our backs."""
    runs.note(*TEXTS)
    assert runs.run().success
    assert checked(runs.run(SCRUB_JOB, None))["stored_bytes_are_what_was_published"].passed
    upkeep = checked(runs.run(UPKEEP_JOB, None))
    assert {one: upkeep[one].passed for one in CONTENT_CLAIMS} == dict.fromkeys(
        CONTENT_CLAIMS, True
    )
    gone = runs.store._notes.pop("net-00001")
    verdict = checked(runs.run(UPKEEP_JOB, None))["indexes_hold_the_notes_that_exist"]
    assert "1 inside are no notes: net-00001" in (verdict.description or "")
    runs.store._notes["unseen"] = gone._replace(note_id="unseen")
    verdict = checked(runs.run(UPKEEP_JOB, None))["indexes_hold_the_notes_that_exist"]
    assert not verdict.passed
    part = next(
        one.key for one in runs.indexes.objects.list_objects("indexes/") if "index.faiss" in one.key
    )
    file = Path(runs.declaration.path) / part
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.chmod(0o600)
    file.write_bytes(data)
    verdict = checked(runs.run(SCRUB_JOB, None))["stored_bytes_are_what_was_published"]
    assert not verdict.passed
    assert "index.faiss" in (verdict.description or "")
    (health,) = look_at_health(runs.store, runs.indexes, runs.clock.now())
    assert any("damaged" in one for one in health.problems())


def test_upkeep_removes_leftovers_under_the_lease_and_tells_how_all_stand(
    runs: VectorRuns,
) -> None:
    """What a crash has left goes when it is old; a network that is being built is left alone."""
    runs.note(*TEXTS)
    assert runs.run().success
    folder = Path(runs.declaration.path) / "indexes/net/generations/20260101T000000000000Z-0badcafe"
    folder.mkdir(parents=True)
    (folder / "index.faiss.0000").write_bytes(b"half")
    os.utime(folder / "index.faiss.0000", (0, 0))
    with building(runs.store, "net"):
        assert remove_old(runs.store, runs.indexes, runs.clock).busy == ("net",)
    assert folder.is_dir()
    told = metadata_of(runs.run(UPKEEP_JOB, None), HEALTH)
    assert (told["leftovers_removed"], told["indexes"], told["notes_indexed"]) == (1, 1, 4)
    assert told["with_problems"] == 0
    assert not list(folder.glob("*"))


def test_a_store_that_is_away_is_told_and_asked_again(runs: VectorRuns) -> None:
    """A sensor never fails for a transient reason."""

    class Away(InMemoryControlStore):
        def note_backlogs(self, count_max: int) -> list[NoteBacklog]:
            raise StoreUnavailableError("gone for a moment")

    runs.resources["control_store"] = Away(runs.clock)
    assert "gone for a moment" in (runs.tick().skip_message or "")


def test_an_index_that_is_gone_and_another_embedder_are_asked_for_without_a_new_note(
    runs: VectorRuns,
) -> None:
    """Upkeep looks whether what the standing tells is there; the sensor, what settings name."""
    runs.note(*TEXTS)
    assert runs.run().success
    runs.clock.advance(60)
    assert requests_of(runs.tick()) == []
    other = dataclasses.replace(runs.declaration.networks[0], model_path="elsewhere")
    runs.resources["vector_declaration"] = dataclasses.replace(runs.declaration, networks=(other,))
    (request,) = requests_of(runs.tick())
    assert "the embedder was static" in request.tags["stateroom/reason"]
    runs.resources["vector_declaration"] = runs.declaration
    keys = [one.key for one in runs.indexes.objects.list_objects("indexes/")]
    runs.indexes.objects.delete(keys)
    result = runs.run(UPKEEP_JOB, None)
    assert "was published and is gone" in metadata_of(result, HEALTH)["asked_for_anew"]
    assert not checked(result)["indexes_hold_the_notes_that_exist"].passed
    assert len(requests_of(runs.tick())) == 1
    assert runs.run().success
    assert runs.found("disk was busy")[0] == TEXTS[0]
    assert checked(runs.run(UPKEEP_JOB, None))["indexes_hold_the_notes_that_exist"].passed
