"""What rescaling costs: `decide` thousands of workloads at once, `look` at a whole fleet.

Run as `python benchmarks/rescaling.py [--quick] [part ...]`; without a part all are run. Each part
is a module beside this one and says what it measures, and against what.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import _rescaling_decide
import _rescaling_look

PARTS: dict[str, Callable[..., None]] = {
    "decide": _rescaling_decide.measure,
    "look": _rescaling_look.measure,
}


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="all without any")
    parser.add_argument("--quick", action="store_true", help="smaller, to see that it runs")
    arguments = parser.parse_args()
    for name in arguments.parts or PARTS:
        print(f"-- {name}")
        PARTS[name](quick=arguments.quick)


if __name__ == "__main__":
    main()
