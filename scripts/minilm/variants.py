"""The ways to store the model that are compared, and what converts it: the command-line tools."""
import dataclasses
import json
import subprocess

CODEBOOK_PRESETS = ("cb8", "cb8g64", "cb6g64", "cb5g32", "cb4g32")
LOSSLESS_PRESETS = ("exact", "exact-z")
PRESETS = LOSSLESS_PRESETS + CODEBOOK_PRESETS
# What the embeddings get: "same" is the preset of the matrices.
EMBEDDINGS = ("exact", "cb8", "same")


@dataclasses.dataclass(frozen=True)
class Variant:
    """`embeddings` is their preset, or None where the preset of the model says it."""
    preset: str
    embeddings: str | None = None

    @property
    def name(self):
        return f"{self.preset}+{self.embeddings}" if self.embeddings else self.preset

    @property
    def policy(self):
        """What --policy takes; None where --encoding does it: embeddings are exact by default."""
        if self.embeddings in (None, "exact"):
            return None
        return {"rules": [{"role": "embedding", "preset": self.embeddings}, {"preset": self.preset}]}


def variants(presets, embeddings):
    """In the order of the table, each once."""
    for preset in presets:
        if preset not in CODEBOOK_PRESETS:
            yield Variant(preset)
            continue
        wanted = (preset if choice == "same" else choice for choice in embeddings)
        yield from (Variant(preset, choice) for choice in dict.fromkeys(wanted))


class ToolError(Exception):
    """A tool failed; the text is its own."""


class Tools:
    """`folder` has cdna and cdna-inspect."""

    def __init__(self, folder):
        self.folder = folder

    def run(self, program, *arguments):
        command = [str(self.folder / program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ToolError(f"{' '.join(command)}\n{(done.stderr or done.stdout).strip()}")
        return done.stdout

    def version(self):
        return self.run("cdna", "--version").strip()

    def can_convert(self, variant):
        return not variant.policy or "--policy" in self.run("cdna", "convert", "--help")

    def convert(self, model, variant, target):
        wanted = ("--encoding", variant.preset)
        if variant.policy:
            policy = target.with_suffix(".policy.json")
            policy.write_text(json.dumps(variant.policy), "utf-8")
            wanted = ("--policy", policy)
        self.run("cdna", "convert", model, target, *wanted, "--force")

    def export(self, file, target):
        self.run("cdna", "export", file, target, "--dtype", "f32", "--force")

    def inspect(self, file):
        return json.loads(self.run("cdna-inspect", "--json", file))
