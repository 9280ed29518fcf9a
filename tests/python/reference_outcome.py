"""What the reference decoder says of a file, in the words of the tables and of examine_flips."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "spec" / "reference"))
import cdna_reference


def first_fault(data, expected_root=None):
    """The open rule, else that of the first item that is not ok, else that of the deep check, else "clean"."""
    outcome = cdna_reference.examine(data, expected_root)
    if outcome["open"] != "ok":
        return f"open {outcome['open']['rule']}"
    for item in outcome["items"]:
        if item["status"] != "ok":
            return f"item {item['number']} {item['status']['rule']}"
    return "clean" if outcome["deep"] == "clean" else f"deep {outcome['deep']['rule']}"
