"""State of a run of the sampler, and its checkpoint on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pkpd.errors import PkpdError, sentence

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stage:
    """What happened at one stage.

    Attributes
    ----------
    power
        Of the likelihood, 0 to 1.
    log_evidence
        Estimate of the log of the integral of likelihood^power over the prior.
    effective_share
        Conditional effective sample size over particles when the power was raised.
    accepted
        Share of accepted moves by kind.
    steps
        Step of each kind of move.
    unique_share
        Different particles over particles.
    kept_correlation
        Mean over parameters of the correlation between starts and ends of the chains.
    """

    power: float
    log_evidence: float
    effective_share: float
    accepted: Mapping[str, float]
    steps: Mapping[str, float]
    unique_share: float
    kept_correlation: float


@dataclass
class SMCRun:
    """State of a run; finished when the last stage has power 1 and the final stages are done.

    Attributes
    ----------
    z : float[N, d]
        Scores; chain after chain, ``N = chains x length``, longer after final stages.
    log_likelihood : float[N]
        Log likelihood.
    pieces : float[N, Q]
        Its pieces, as the target returns them.
    stages
        What happened.
    steps
        Steps of the moves for the next stage.
    final_done
        Final stages done.
    evaluations
        Likelihoods evaluated.
    failed
        Evaluations without a finite likelihood.
    """

    z: Floats
    log_likelihood: Floats
    pieces: Floats
    stages: list[Stage] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=dict)
    final_done: int = 0
    evaluations: int = 0
    failed: int = 0

    @property
    def power(self) -> float:
        """Power reached."""
        return self.stages[-1].power if self.stages else 0.0

    @property
    def log_evidence(self) -> float:
        """Estimate of the log of the integral of the likelihood over the prior."""
        return self.stages[-1].log_evidence if self.stages else 0.0


def save_checkpoint(run: SMCRun, file: Path | None, mark: str) -> None:
    """Write the state of a run; a file half written is never left under the name.

    Parameters
    ----------
    run
        The run.
    file
        ``None``: nothing is written.
    mark
        What the run belongs to; :func:`load_checkpoint` asks for the same.
    """
    if file is None:
        return
    facts = {
        "mark": mark,
        "stages": [asdict(stage) for stage in run.stages],
        "steps": run.steps,
        "final_done": run.final_done,
        "evaluations": run.evaluations,
        "failed": run.failed,
    }
    part = file.with_name(file.name + ".part")
    file.parent.mkdir(parents=True, exist_ok=True)
    with part.open("wb") as stream:
        np.savez(
            stream,
            z=run.z,
            log_likelihood=run.log_likelihood,
            pieces=run.pieces,
            facts=json.dumps(facts),
        )
    os.replace(part, file)


def load_checkpoint(file: Path, mark: str) -> SMCRun:
    """Read the state of a run.

    Raises
    ------
    PkpdError
        If the file is no checkpoint, or belongs to another run.
    """
    try:
        with np.load(file) as data:
            facts = json.loads(str(data["facts"]))
            z, ll, pieces = data["z"], data["log_likelihood"], data["pieces"]
    except (OSError, ValueError, KeyError) as error:
        raise PkpdError(
            sentence(where=str(file), what="it is no checkpoint", remedy="remove the file")
        ) from error
    if facts["mark"] != mark:
        raise PkpdError(
            sentence(
                where=str(file),
                what="the checkpoint belongs to a run with other evidence, prior or settings",
                remedy="remove it to start anew, or name another file",
            )
        )
    return SMCRun(
        z=z,
        log_likelihood=ll,
        pieces=pieces,
        stages=[Stage(**stage) for stage in facts["stages"]],
        steps=facts["steps"],
        final_done=facts["final_done"],
        evaluations=facts["evaluations"],
        failed=facts["failed"],
    )
