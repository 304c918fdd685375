"""Codebook patterns: which decoder step computes which (timestep, codebook).

Sits under the schedule (the run-time walk, engine/schedule.py) and the training layout (training/layout.py), which
both read the same closed forms. Delay and flat are those of Copet et al. 2023 ("Simple and Controllable Music
Generation"), stack and stack-delay those of Le Lan et al. 2023 ("Stack-and-delay"). `simulate` is the slow, obvious
reference for tests.
"""

from __future__ import annotations

from dataclasses import dataclass

PATTERN_NAMES = ("parallel", "delay", "flat", "stack", "stack-delay")
MAX_CODEBOOKS = 64
MAX_PERMUTATION = 16


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Map from (t, k) to steps for K codebooks, restarting at timestep 0. Build it with `make_pattern`.

    p is stack-delay's permutation: within a block of p + 1 timesteps, neighbours start p steps apart.
    It is 1 (no permutation) for every other pattern. `channels` neighbouring codebooks are computed at once: those
    of stereo delay models, whose codebooks alternate between left and right. It is 1 for every other pattern.
    """

    name: str
    num_codebooks: int
    p: int = 1
    channels: int = 1

    def __post_init__(self) -> None:
        if self.name not in PATTERN_NAMES:
            raise ValueError(f"pattern is {self.name!r}, must be one of {', '.join(PATTERN_NAMES)}")
        if not 1 <= self.num_codebooks <= MAX_CODEBOOKS:
            raise ValueError(f"num_codebooks is {self.num_codebooks}, must be 1..{MAX_CODEBOOKS}")
        if not 1 <= self.p <= MAX_PERMUTATION:
            raise ValueError(f"p is {self.p}, must be 1..{MAX_PERMUTATION}")
        if self.name != "stack-delay" and self.p != 1:
            raise ValueError(f"p is {self.p}, must be 1 for pattern {self.name!r}")
        if self.channels < 1 or self.num_codebooks % self.channels:
            raise ValueError(f"channels is {self.channels}, must divide num_codebooks {self.num_codebooks}")
        if self.name != "delay" and self.channels != 1:
            raise ValueError(f"channels is {self.channels}, must be 1 for pattern {self.name!r}")

    @property
    def family(self) -> str:
        """ "stack" (query rows and one memory row per timestep) or "row" (one row per step, which stays)."""
        return "stack" if self.name.startswith("stack") else "row"

    @property
    def steps_per_timestep(self) -> int:
        """Steps per timestep once warmed up."""
        return self.num_codebooks if self.name in ("flat", "stack") else 1

    @property
    def lag_steps(self) -> int:
        """Most steps from the one in which a timestep would start undelayed to the one that completes it."""
        return self.p * (self.p - 1) + self.delay_of(self.num_codebooks - 1)

    def first_step_of(self, t: int) -> int:
        """Step that computes codebook 0 of timestep t >= 0."""
        if self.name in ("flat", "stack"):
            return self.num_codebooks * t
        return t + t % (self.p + 1) * (self.p - 1)

    def delay_of(self, k: int) -> int:
        """Steps from codebook 0 of a timestep to codebook k of it."""
        return 0 if self.name == "parallel" else k // self.channels

    def step_of(self, t: int, k: int) -> int:
        """Step that computes (t, k), t >= 0, 0 <= k < K."""
        return self.first_step_of(t) + self.delay_of(k)

    def entering(self, step: int) -> int:
        """Timestep whose codebook 0 is computed in `step`, or -1: the inverse of `first_step_of`.

        Stack-delay: first_step_of(t) = t + r (p - 1) with r = t mod (p + 1), and p is -1 modulo p + 1, so the
        step is -r modulo p + 1: every residue occurs once, hence at most one timestep enters per step, and
        exactly one after the first p (p - 1) steps.
        """
        if step < 0:
            return -1
        if self.name in ("flat", "stack"):
            t, rest = divmod(step, self.num_codebooks)
            return t if rest == 0 else -1
        return max(step - (-step) % (self.p + 1) * (self.p - 1), -1)

    def num_steps(self, num_timesteps: int) -> int:
        """Steps until all of T timesteps have all codebooks.

        Stack-delay reaches the T + p (p - 1) + K - 1 of the paper's Table 1 where T is a multiple of p + 1, the
        last timestep then being the most delayed one; for other T the exact number, which is lower, is given.
        """
        if num_timesteps <= 0:
            return 0
        last = range(max(0, num_timesteps - self.p - 1), num_timesteps)
        return 1 + max(self.step_of(t, self.num_codebooks - 1) for t in last)

    def context_slots(self, num_timesteps: int) -> int:
        """Most rows that a row can attend to, in a sequence of T timesteps (Table 1, "context")."""
        if self.family == "stack":
            return num_timesteps + self.num_codebooks
        return num_timesteps * self.steps_per_timestep

    def validate(self, num_timesteps: int) -> None:
        """Raises ValueError unless every (t, k), t < T, is computed once, coarse before fine, one t per codebook
        and step, `entering` inverts `first_step_of`, and nothing is later than `num_steps` and `lag_steps` say."""
        seen: set[tuple[int, int]] = set()
        steps = self.num_steps(num_timesteps)
        for t in range(num_timesteps):
            if self.entering(self.first_step_of(t)) != t:
                raise ValueError(f"{self}: entering() does not invert first_step_of({t})")
            if self.step_of(t, self.num_codebooks - 1) > t * self.steps_per_timestep + self.lag_steps:
                raise ValueError(f"{self}: timestep {t} is completed later than lag_steps allows")
            for k in range(self.num_codebooks):
                step = self.step_of(t, k)
                if not 0 <= step < steps:
                    raise ValueError(f"{self}: step {step} of {(t, k)} is outside 0..{steps - 1}")
                if k and step < self.step_of(t, k - 1) + (self.name != "parallel" and k % self.channels == 0):
                    raise ValueError(f"{self}: {(t, k)} is computed before its coarser codebook is known")
                if (step, k) in seen:
                    raise ValueError(f"{self}: step {step} computes codebook {k} twice")
                seen.add((step, k))

    def draw(self, num_timesteps: int) -> str:
        """The papers' grid: a line per codebook (the finest on top), a column per step, cells are timesteps."""
        steps = self.num_steps(num_timesteps)
        width = max(len(str(max(steps - 1, 0))), len(str(num_timesteps - 1)))
        cells = [["." for _ in range(steps)] for _ in range(self.num_codebooks)]
        for t in range(num_timesteps):
            for k in range(self.num_codebooks):
                cells[k][self.step_of(t, k)] = str(t)
        lines = [
            f"k={k:<3d}|" + " ".join(cell.rjust(width) for cell in cells[k])
            for k in reversed(range(self.num_codebooks))
        ]
        lines.append("step |" + " ".join(str(s).rjust(width) for s in range(steps)))
        return "\n".join(lines)


def make_pattern(name: str, num_codebooks: int, *, p: int = 3, channels: int = 1) -> Pattern:
    """Pattern by name; p is used by stack-delay only. Raises ValueError on a bad name or value."""
    return Pattern(name=name, num_codebooks=num_codebooks, p=p if name == "stack-delay" else 1, channels=channels)


def simulate(pattern: Pattern, num_timesteps: int) -> list[list[tuple[int, int]]]:
    """Slow reference: the (t, k) that each step computes, coarse first, by walking step by step (tests only).

    Stack-delay as the paper draws it: blocks of p + 1 timesteps, a block every p + 1 steps, within a block one
    start every p steps; a started timestep gets its next codebook in each following step.
    """
    remaining = {(t, k) for t in range(num_timesteps) for k in range(pattern.num_codebooks)}
    steps: list[list[tuple[int, int]]] = []
    while remaining:
        s = len(steps)
        now: list[tuple[int, int]] = []
        if pattern.name == "parallel":
            now = [(s, k) for k in range(pattern.num_codebooks)]
        elif pattern.name == "delay":
            now = [(s - k // pattern.channels, k) for k in range(pattern.num_codebooks)]
        elif pattern.name in ("flat", "stack"):
            now = [min(remaining)]
        else:
            block_length = pattern.p + 1
            for block in range(num_timesteps // block_length + 1):
                for member in range(block_length):
                    age = s - (block * block_length + member * pattern.p)
                    now.append((block * block_length + member, age))
        now = sorted((cell for cell in now if cell in remaining), key=lambda cell: (cell[1], cell[0]))
        remaining -= set(now)
        steps.append(now)
    return steps
