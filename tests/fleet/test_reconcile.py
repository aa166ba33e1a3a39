"""What a node does next: convergence, safety of epochs, patience."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from fleet.inventory import AgentPhase
from fleet.reconcile import (
    ActionKind,
    AgentSlot,
    ReconcileAction,
    WantedAgent,
    plan_reconcile,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GRACE = timedelta(seconds=5)

ids = st.sampled_from(["a", "b", "c", "d"])
epochs = st.integers(1, 3)
revisions = st.sampled_from(["r1", "r2"])
moments = st.none() | st.integers(-10, 10).map(lambda s: NOW + timedelta(seconds=s))
wanted_agents = st.builds(WantedAgent, ids, epochs, revisions)
dead = st.builds(
    AgentSlot,
    ids,
    epochs,
    revisions,
    st.sampled_from([AgentPhase.FAILED, AgentPhase.COMPLETED, AgentPhase.STOPPED]),
    st.just(False),
    st.none(),
    st.none(),
)
backing_off = st.builds(
    AgentSlot,
    ids,
    epochs,
    revisions,
    st.just(AgentPhase.BACKING_OFF),
    st.just(False),
    st.none(),
    st.integers(-10, 10).map(lambda s: NOW + timedelta(seconds=s)),
)
living = st.builds(
    AgentSlot,
    ids,
    epochs,
    revisions,
    st.just(AgentPhase.RUNNING),
    st.just(True),
    moments,
    st.none(),
)
wanted_sets = st.lists(wanted_agents, unique_by=lambda agent: agent.agent_id)
slot_sets = st.lists(st.one_of(dead, backing_off, living), unique_by=lambda slot: slot.agent_id)


def carry_out(
    wanted: list[WantedAgent],
    slots: list[AgentSlot],
    actions: list[ReconcileAction],
    now: datetime,
    *,
    obedient: bool,
) -> list[AgentSlot]:
    """A node of the simplest kind: obedient agents end when asked, others only when killed."""
    by_id = {slot.agent_id: slot for slot in slots}
    want = {agent.agent_id: agent for agent in wanted}
    for action in actions:
        slot = by_id.get(action.agent_id)
        match action.kind:
            case ActionKind.START:
                assert slot is None or not slot.alive
                agent = want[action.agent_id]
                by_id[action.agent_id] = AgentSlot(*agent, AgentPhase.RUNNING, alive=True)
            case ActionKind.STOP if not obedient:
                assert slot is not None
                by_id[action.agent_id] = slot._replace(kill_at=now + GRACE)
            case ActionKind.STOP | ActionKind.KILL:
                assert slot is not None
                by_id[action.agent_id] = slot._replace(
                    alive=False, kill_at=None, phase=AgentPhase.STOPPED
                )
            case ActionKind.FORGET:
                del by_id[action.agent_id]
    return list(by_id.values())


@given(wanted_sets, slot_sets, st.booleans())
def test_repeated_plans_lead_to_exactly_what_is_wanted(
    wanted: list[WantedAgent], slots: list[AgentSlot], obedient: bool
) -> None:
    """From any state, with agents that obey or not, four rounds leave nothing to do."""
    now = NOW
    held_down = {
        slot.agent_id
        for slot in slots
        if (not slot.alive and slot.restart_at is None) or (slot.alive and slot.kill_at is not None)
    }
    before = {slot.agent_id: slot for slot in slots}
    for _ in range(4):
        now += timedelta(seconds=20)
        actions = plan_reconcile(wanted, slots, now)
        slots = carry_out(wanted, slots, actions, now, obedient=obedient)
    assert plan_reconcile(wanted, slots, now) == []
    alive = {(s.agent_id, s.epoch, s.revision) for s in slots if s.alive}
    for agent in wanted:
        slot = before.get(agent.agent_id)
        newer = slot is None or agent.epoch > slot.epoch
        same_place = slot is not None and agent.epoch == slot.epoch
        declared_anew = slot is not None and same_place and agent.revision != slot.revision
        if newer or declared_anew or (same_place and agent.agent_id not in held_down):
            assert tuple(agent) in alive
    assert {agent_id for agent_id, _, _ in alive} <= {agent.agent_id for agent in wanted}


@given(wanted_sets, slot_sets)
def test_a_plan_holds_one_action_per_agent_in_order_and_with_a_reason(
    wanted: list[WantedAgent], slots: list[AgentSlot]
) -> None:
    """The executor may apply a plan in any order."""
    actions = plan_reconcile(wanted, slots, NOW)
    names = [action.agent_id for action in actions]
    assert names == sorted(set(names))
    assert all(action.reason for action in actions)


@given(wanted_sets, slot_sets)
def test_no_process_is_started_beside_a_living_one_or_under_an_old_epoch(
    wanted: list[WantedAgent], slots: list[AgentSlot]
) -> None:
    """START needs a dead slot, or none, whose epoch is not above the wanted one."""
    by_id = {slot.agent_id: slot for slot in slots}
    for action in plan_reconcile(wanted, slots, NOW):
        slot = by_id.get(action.agent_id)
        if action.kind == ActionKind.START and slot is not None:
            assert not slot.alive
            assert action.epoch >= slot.epoch


@given(wanted_sets, slot_sets)
def test_nothing_is_killed_before_its_grace_period_is_over(
    wanted: list[WantedAgent], slots: list[AgentSlot]
) -> None:
    """KILL only follows a STOP whose time is up."""
    by_id = {slot.agent_id: slot for slot in slots}
    for action in plan_reconcile(wanted, slots, NOW):
        if action.kind == ActionKind.KILL:
            kill_at = by_id[action.agent_id].kill_at
            assert kill_at is not None
            assert kill_at <= NOW


def test_a_failed_agent_stays_down_until_it_is_placed_or_declared_anew() -> None:
    """A crash loop does not come back by itself."""
    failed = AgentSlot("a", 2, "r1", AgentPhase.FAILED, alive=False)
    assert plan_reconcile([WantedAgent("a", 2, "r1")], [failed], NOW) == []
    for again in (WantedAgent("a", 3, "r1"), WantedAgent("a", 2, "r2")):
        assert [a.kind for a in plan_reconcile([again], [failed], NOW)] == [ActionKind.START]


@given(slot_sets)
def test_between_due_moments_a_plan_does_not_change(slots: list[AgentSlot]) -> None:
    """A node may sleep until the next end of a grace period or restart delay."""
    due = [at for slot in slots for at in (slot.kill_at, slot.restart_at) if at and at > NOW]
    if not due:
        return
    wanted = [WantedAgent(s.agent_id, s.epoch, s.revision) for s in slots]
    just_before = min(due) - timedelta(microseconds=1)
    assert plan_reconcile(wanted, slots, NOW) == plan_reconcile(wanted, slots, just_before)
