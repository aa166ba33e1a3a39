"""`stateroom search` and `stateroom indexes` over real stores: what is found, told and refused."""

from __future__ import annotations

import json
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from fleet.agents import Note, NoteVector
from fleet.ports.control_store import ControlStore
from ops.embeddings import EmbeddingPorts, embed_notes
from ops.index_lease import building
from ops.vector_index import IndexPorts, refresh_index
from platform_defs.command import exit_codes
from platform_defs.declared_vectors import declared_vectors
from platform_defs.settings import load_settings
from resources.clock import SystemClock
from resources.vectors.network_indexes import NetworkIndexes
from tests.platform_defs.command.conftest import SETTINGS, Run

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
MORE = """
[networks.trade]
[networks.own.vectors]
embedder = "given"
model = "three"
dimensions = 3
[indexes.theirs]
path = "theirs.faiss"
"""


class Remembering(NamedTuple):
    """Both stores of a fleet whose agents have written notes."""

    store: ControlStore
    indexes: NetworkIndexes

    def note(self, network_id: str, *texts: str, vectors: tuple[NoteVector, ...] = ()) -> None:
        """Notes of one agent, a moment each."""
        count = len(self.store.notes(network_id, "", 1000))
        self.store.append_notes(
            [
                Note(
                    f"{network_id}-{count + place}",
                    "cpu-1",
                    network_id,
                    AT,
                    text,
                    vectors[place] if vectors else None,
                )
                for place, text in enumerate(texts)
            ]
        )

    def build(self, network_id: str) -> str:
        """Embed and index, as the job does; the generation that serves."""
        indexes, clock = self.indexes, SystemClock()
        embedder = indexes.embedder(network_id)
        with building(self.store, network_id) as lease:
            embedding = EmbeddingPorts(self.store, indexes.store, embedder, clock)
            embed_notes(embedding, network_id, lease.demand_term)
            declared = indexes.declaration.network(network_id)
            ports = IndexPorts(
                self.store,
                indexes.store,
                indexes.builder(network_id),
                embedder.model,
                declared.embedder_id,
                declared.policy,
                clock,
            )
            refresh_index(ports, network_id, lease.demand_term)
        pointer = indexes.store.current(network_id)
        assert pointer is not None
        return pointer.generation


@pytest.fixture
def remembering(store: ControlStore, fleet_dir: Path) -> Remembering:
    """Networks watch (of the filled store), trade and own; nothing is embedded yet."""
    path = fleet_dir / "stateroom.toml"
    path.write_text(SETTINGS + MORE, encoding="utf-8")
    declaration = declared_vectors(load_settings(path, {}))
    return Remembering(store, NetworkIndexes(declaration, SystemClock(), threads=1))


def test_notes_are_found_with_their_freshness_and_bad_questions_are_told(
    run: Run, remembering: Remembering
) -> None:
    """One network, all networks of one model, filters, words; each wrong input by its name."""
    early = run("search", "disk")
    assert early.exit_code == exit_codes.USAGE
    assert "no embeddings and no index" in early.stderr
    remembering.note("watch", "Disk sda was busy 93 percent of the time.", "Memory is full: 97 %.")
    generation = remembering.build("watch")
    remembering.note("trade", "Bought 30 shares: the disk maker is cheap.")
    remembering.build("trade")
    remembering.note("watch", "A note that came later.", "And one more.")
    found = run("search", "the disk was busy", "-k", "2")
    assert found.exit_code == exit_codes.OK, found.stderr
    head, first, second, trade, watch, missing = found.stdout.splitlines()
    assert head.split() == ["score", "at", "agent", "region", "network", "note"]
    assert "cpu-1  us-west-2  watch    Disk sda was busy" in first
    assert "Bought 30 shares" in second
    assert watch.startswith(f"watch: 3 notes asked (exact), generation {generation} built")
    assert watch.endswith("2 newer notes not in it yet")
    assert trade.startswith("trade: 1 notes asked")
    assert missing == "no index yet: own"
    answer = json.loads(run("search", "full", "--network", "watch", "-k", "1", "--json").stdout)
    assert [hit["text"] for hit in answer["hits"]] == ["Memory is full: 97 %."]
    assert answer["networks"][0]["newer_notes"] == 2
    words = run("search", "SDA", "--network", "watch", "--words", "--where", "agent_id = 'cpu-1'")
    assert "(bm25)" in words.stdout
    assert len(words.stdout.splitlines()) == 3
    assert "no note" in run("search", "zebra", "--network", "watch", "--words").stdout
    for asked, said in [
        (("search", "  "), "TEXT: '  ' is not valid"),
        (("search", "x", "--network", "wach"), "no network 'wach'; did you mean 'watch'?"),
        (("search", "x", "--where", "region ~ 'a'"), "not understood at character 8: ~ 'a'"),
        (("search", "x", "--where", "colour = 'a'"), "a column: note_id, agent_id"),
        (("search", "x", "--where", "region ="), "not understood at character 9: end"),
        (("search", "x", "--network", "own"), "no index yet: own"),
        (("search", "x", "--hybrid"), "how much a word weighs depends on the network"),
    ]:
        refused = run(*asked)
        assert refused.exit_code == exit_codes.USAGE, asked
        assert said in refused.stderr


def test_networks_of_two_models_are_not_mixed_and_given_vectors_are_searched_by_words(
    run: Run, remembering: Remembering
) -> None:
    """Vectors that agents handed in are in the index as they came."""
    vectors = tuple(NoteVector("three", struct.pack("<3f", 1.0, n, 0.0)) for n in (0.0, 1.0))
    remembering.note("own", "first thing", "second thing", vectors=vectors)
    remembering.note("own", "a thing without a vector")
    remembering.build("own")
    remembering.build("watch")
    mixed = run("search", "thing")
    assert mixed.exit_code == exit_codes.USAGE
    assert "own: three" in mixed.stderr
    alone = run("search", "thing", "--network", "own")
    assert alone.exit_code == exit_codes.USAGE
    assert "search by words alone" in alone.stderr
    by_words = run("search", "second", "--network", "own", "--words", "--json")
    assert [hit["text"] for hit in json.loads(by_words.stdout)["hits"]] == ["second thing"]
    searcher = remembering.indexes.searcher("own")
    hits = searcher.search_vector([1.0, 1.0, 0.0], 3).hits
    assert [(hit.text, round(hit.score, 4)) for hit in hits] == [
        ("second thing", 1.0),
        ("first thing", 0.7071),
        ("a thing without a vector", 0.0),
    ]


def test_indexes_are_listed_rolled_back_and_scrubbed(run: Run, remembering: Remembering) -> None:
    """What stands there is told; an order is journaled; damage is named and ends in exit code 1."""
    remembering.note("watch", "The first note.")
    first = remembering.build("watch")
    remembering.note("watch", "The second note.")
    second = remembering.build("watch")
    remembering.note("watch", "A third one waits.")
    listed = run("indexes")
    assert listed.exit_code == exit_codes.OK, listed.stderr
    rows = {line.split()[0]: line for line in listed.stdout.splitlines()}
    assert second in rows["watch"]
    assert "1 notes" in rows["watch"]
    assert rows["trade"].endswith("no note yet")
    assert "adopted" in rows["theirs"]
    document = json.loads(run("indexes", "--json").stdout)
    facts = document["indexes"][0]["facts"]
    assert (facts["generation"], facts["live"], document["indexes"][0]["waiting"]) == (second, 3, 1)
    assert document["adopted"][0]["look"] is None
    shown = run("indexes", "generations", "watch")
    assert [line.split()[:2] for line in shown.stdout.splitlines()[1:]] == [
        [second, "yes"],
        [first, "Flat"],
    ]
    for asked, said in [
        (("--to", "1999", "--reason", "x"), "no published generation '1999'"),
        (("--to", first), "--reason is needed"),
        (("--to", "2", "--reason", "x"), "more of its name"),
    ]:
        refused = run("indexes", "rollback", "watch", *asked)
        assert refused.exit_code == exit_codes.USAGE
        assert said in refused.stderr
    order = ("indexes", "rollback", "watch", "--to", first, "--reason", "worse", "--by", "ann")
    with building(remembering.store, "watch"):
        assert run(*order).exit_code == exit_codes.REFUSED
    done = run(*order)
    assert done.exit_code == exit_codes.OK, done.stderr
    assert f"served by generation {first} again (ann)" in done.stdout
    assert "nothing was changed" in run(*order).stdout
    pointer = remembering.indexes.store.current("watch")
    assert pointer is not None
    assert (pointer.generation, pointer.number, pointer.reason) == (first, 3, "ann: worse")
    document = json.loads(run("indexes", "--json").stdout)
    assert document["indexes"][0]["facts"]["generation"] == first
    assert document["indexes"][0]["waiting"] == 4
    journal = [one for one in remembering.store.open_actions() if one.step == "index_rollback"]
    assert journal == []
    assert "every byte is as published" in run("indexes", "scrub", "watch").stdout
    part = next(
        Path(remembering.indexes.declaration.path).glob("indexes/watch/generations/*/rows*")
    )
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    scrubbed = run("indexes", "scrub")
    assert scrubbed.exit_code == exit_codes.FINDING
    assert part.name in scrubbed.stdout
    assert "trade: no index" in scrubbed.stdout
    assert run("indexes").exit_code == exit_codes.FINDING
    part.with_name("manifest.json").write_bytes(b"{")
    left = run("indexes", "generations", "watch")
    assert left.exit_code == exit_codes.FINDING
    assert len(left.stdout.splitlines()) == 2
    assert f"{part.parent.name}/manifest.json: not readable" in left.stderr


@pytest.mark.long
def test_an_index_is_rebuilt_by_a_run_and_adopted_ones_are_listed_after_a_look(
    run: Run, remembering: Remembering, fleet_dir: Path
) -> None:
    """Notes are embedded first; a network without notes has nothing to build."""
    import faiss
    import numpy as np

    from platform_defs.command.job_runs import job_runner

    index = faiss.IndexFlatL2(8)
    index.add(np.random.default_rng(1).standard_normal((500, 8)).astype(np.float32))
    faiss.write_index(index, str(fleet_dir / "theirs.faiss"))
    built = run("indexes", "rebuild", "watch", "--reason", "tried out", "--json")
    assert built.exit_code == exit_codes.OK, built.stderr
    first = json.loads(built.stdout)["pointer"]["generation"]
    again = run("indexes", "rebuild", "watch")
    assert again.exit_code == exit_codes.OK, again.stderr
    assert first not in again.stdout
    assert "nothing to build" in run("indexes", "rebuild", "trade").stdout
    assert len(json.loads(run("search", "load", "--json").stdout)["hits"]) == 1
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    settings = load_settings(fleet_dir / "stateroom.toml", {})
    with job_runner(settings) as runner:
        assert runner._execute("look_at_indexes_job", quiet, {}).success
        (fleet_dir / "theirs.faiss").write_bytes(b"torn")
        result = runner._execute("look_at_indexes_job", quiet, {})
    (check,) = [
        one.asset_check_evaluation_data
        for one in result.all_events
        if one.event_type_value == "ASSET_CHECK_EVALUATION"
    ]
    assert not check.passed
    assert "FAISS" in (check.description or "")
    adopted = json.loads(run("indexes", "--json").stdout)["adopted"]
    assert (adopted[0]["look"]["ntotal"], adopted[0]["look"]["recall"]) == (500, 1.0)
    row = next(one for one in run("indexes").stdout.splitlines() if one.startswith("theirs"))
    assert row.split()[1:5] == ["adopted", "IndexFlatL2", "500", "1.000"]
