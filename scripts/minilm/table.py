"""What was measured, as a Markdown table and as JSON."""
import datetime
import json
import os
import pathlib
import platform

HEAD = ("| preset | embeddings | bytes | of f32 | of bf16 | SNR worst | SNR mean | cosine worst | cosine mean | top-1 | top-5 |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")


def decibels(value):
    return "–" if value is None else f"{value:.1f} dB"


def cosine(distance):
    return "1" if distance == 0 else f"{1 - distance:.6f}"


def line(row, source_bytes):
    cells = (row["preset"], row["embeddings"] or "–", f"{row['bytes']:,}", f"{row['bytes'] / source_bytes:.3f}",
             f"{row['bytes'] / (source_bytes / 2):.3f}", decibels(row["snr_db_worst"]), decibels(row["snr_db_mean"]),
             cosine(row["distance_max"]), cosine(row["distance_mean"]), f"{row['top1']:.1%}", f"{row['top5']:.1%}")
    return f"| {' | '.join(cells)} |"


def markdown(rows, source_bytes):
    return "\n".join((*HEAD, *(line(row, source_bytes) for row in rows))) + "\n"


def cpu_name():
    for text in pathlib.Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if text.startswith("model name"):
            return text.split(":", 1)[1].strip()
    return platform.machine()


def machine():
    return {"cpu": cpu_name(), "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(), "python": platform.python_version()}


def document(rows, **about):
    head = {"schema": "cdna.minilm/1", "date": datetime.date.today().isoformat(), "machine": machine(), **about}
    return json.dumps({**head, "rows": rows}, indent=2, ensure_ascii=False) + "\n"
