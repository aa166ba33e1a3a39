"""The rules of failover by name: what a decision rests on, and what limits it."""

from __future__ import annotations

from enum import StrEnum


class Rule(StrEnum):
    """Every rule by the name that explanations use; `docs/guarantees.md` describes each."""

    # The controller freezes.
    STORE_REACHABLE = "store_reachable"
    OBSERVER_MAJORITY = "observer_majority"
    MASS_LOSS = "mass_loss"
    TICK_GAP = "tick_gap"
    CHANNEL_FAULT = "channel_fault"
    EARLIER_MOVES = "earlier_moves"
    # Who acts.
    LEADER_LEASE = "leader_lease"
    # What a node is held to be.
    SILENCE = "silence"
    CONTRARY_EVIDENCE = "contrary_evidence"
    CONFIRM_TIME = "confirm_time"
    VOTE_MAJORITY = "vote_majority"
    VOTE_DOMAINS = "vote_domains"
    VOTE_OUTSIDE = "vote_outside"
    TERMINATED = "terminated"
    FENCING = "fencing"
    STATELESS = "stateless"
    UNDECIDED = "undecided"
    PROBATION = "probation"
    STALE_EPOCHS = "stale_epochs"
    FLAPPING = "flapping"
    GRAY = "gray"
    MAINTENANCE = "maintenance"
    AGES_RESTART = "ages_restart"
    # What limits an action.
    PAUSED = "paused"
    MODE = "mode"
    BLAST_RADIUS = "blast_radius"
    MOVE_RATE = "move_rate"
    COOL_DOWN = "cool_down"
    REGION_SUSPECT = "region_suspect"
    REGION_PARTIAL = "region_partial"
    REGION_VERDICT = "region_verdict"
    REGION_MODE = "region_mode"
    SECOND_REGION = "second_region"
    CRASH_LOOP = "crash_loop"
    FAIL_BACK_CALM = "fail_back_calm"
    FAIL_BACK_MODE = "fail_back_mode"
    FAIL_BACK_REHEARSAL = "fail_back_rehearsal"
    FAIL_BACK_WINDOW = "fail_back_window"
    FAIL_BACK_RATE = "fail_back_rate"
    # No limits: what a change of state rests on.
    FORCED = "forced"
    PLACED_ELSEWHERE = "placed_elsewhere"
