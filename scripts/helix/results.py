"""What the scripts that run helix-substrate share: programs whose failure is told, and the last line "N passed, N failed"."""
import subprocess


def run(*command):
    """What a program prints. Raises RuntimeError with all that it said if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stderr}{done.stdout}")
    return done.stdout


class Results:
    """Counts checks, and prints a line for each."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, find_problem):
        """find_problem() says what is wrong, or ""; so does a RuntimeError of it."""
        try:
            wrong = find_problem()
        except RuntimeError as error:
            wrong = str(error).strip()
        self.passed, self.failed = self.passed + (not wrong), self.failed + bool(wrong)
        print(f"  {'ok    ' if not wrong else 'FAILED'} {name}{': ' + wrong if wrong else ''}")

    def finish(self):
        """Prints the last line; the exit code."""
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed else 0
