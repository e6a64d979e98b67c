"""The statistical model: individual parameters, their spread, residual error.

A `PopulationModel` joins a structural model to the distribution of its parameters over patients. It
holds numbers to start from and priors, no data and no sampler.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pkpd.arguments import NAMES, NONE, NUMBER, Kind, a, check_arguments, nearest_of, several
from pkpd.errors import PkpdError
from pkpd.fitting.model.correlations import check_blocks, checked_partial, partial_names
from pkpd.fitting.model.covariate_effects import CovariateEffect, check_coefficients, flattened
from pkpd.fitting.model.joint_prior import JointPrior, check_joint
from pkpd.fitting.model.priors import Estimate, Prior, estimate
from pkpd.fitting.model.residual import ResidualError
from pkpd.predict.structure import Structure

Scale = Literal["log", "logit", "identity"]
_ESTIMATE = NUMBER | a(Estimate, words="what fixed(...) gives")


@dataclass(frozen=True)
class IndividualParameter:
    """An individual parameter of the structural model.

    With typical value ``t``, scale ``h`` (log, logit between ``bounds``, or identity), covariate
    terms ``c``, a patient's ``eta`` and an occasion's ``kappa``, the value is
    ``h^-1(h(t) + c + eta + kappa)``. With ``boxcox`` the patient's term is
    ``(exp(eta lambda) - 1) / lambda`` (Petersson 2009, Pharm Res 26:2174-85).

    Attributes
    ----------
    name
        Name in the structural model.
    typical
        Typical value in natural units.
    iiv, iov
        Standard deviations of ``eta`` and ``kappa``; ``None`` for no variability.
    effects
        Covariate effects.
    scale, bounds
        See above.
    boxcox
        Shape ``lambda``; ``None`` for a normal ``eta``.
    column
        Covariate whose values are the parameter; nothing is estimated then.
    function, reads
        Function of other individual parameters, and their names, if it is derived from them.
    centring
        0 non-centred, 1 centred, between them partly; ``None``: chosen by how informative the
        data are.
    """

    name: str
    typical: Estimate
    iiv: Estimate | None = None
    iov: Estimate | None = None
    effects: tuple[CovariateEffect, ...] = ()
    scale: Scale = "log"
    bounds: tuple[float, float] = (0.0, 1.0)
    boxcox: Estimate | None = None
    column: str | None = None
    centring: float | None = None
    function: Callable[..., Any] | None = None
    reads: tuple[str, ...] = ()

    @property
    def has_typical(self) -> bool:
        """Whether it has a typical value of its own."""
        return self.column is None and self.function is None

    @property
    def ends(self) -> tuple[float, float]:
        """Least and largest number of its scale."""
        found = {"log": (0.0, math.inf), "logit": self.bounds}
        return found.get(self.scale, (-math.inf, math.inf))


def parameter(
    name: str,
    value: float | Estimate,
    *,
    prior: Prior | None = None,
    iiv: float | Estimate | None = None,
    iov: float | Estimate | None = None,
    effects: Sequence[CovariateEffect | tuple[CovariateEffect, ...]] | CovariateEffect = (),
    scale: Scale = "log",
    bounds: tuple[float, float] = (0.0, 1.0),
    boxcox: float | Estimate | None = None,
    fixed: bool = False,
    centring: float | None = None,
) -> IndividualParameter:
    """Describe an individual parameter.

    Parameters
    ----------
    name
        Name in the structural model.
    value
        Typical value to start from, in natural units.
    prior
        Prior of the typical value; by default on the log scale a factor of 7 either way (95 %).
    iiv, iov
        Standard deviation between patients and between occasions, on the scale of the parameter (on
        the log scale about the coefficient of variation).
    effects
        Covariate effects: `power`, `exponential`, `linear`, `category`, `allometric`.
    scale
        ``"log"`` for positive parameters, ``"logit"`` for those between ``bounds``,
        ``"identity"``.
    bounds
        Of the logit scale.
    boxcox
        Shape of a Box-Cox distribution of ``eta``.
    fixed
        Hold the typical value.
    centring
        See `IndividualParameter`.

    Examples
    --------
    >>> parameter("CL", 2.7, iiv=0.3).typical.value
    2.7
    """
    where, two = f"parameter {name!r}", several(NUMBER, "two finite numbers, the lower first")
    pair = Kind(two.words, lambda b: two.holds(b) and len(b) == 2 and 0 < b[1] - b[0] < math.inf)
    check_arguments(
        where,
        value=(value, _ESTIMATE),
        prior=(prior, a(Prior) | NONE),
        iiv=(iiv, _ESTIMATE | NONE),
        iov=(iov, _ESTIMATE | NONE),
        boxcox=(boxcox, _ESTIMATE | NONE),
        bounds=(bounds, pair),
        centring=(centring, NUMBER | NONE),
    )
    typical = estimate(value)
    typical = Estimate(typical.value, prior or typical.prior, fixed or typical.fixed)
    low, high = bounds
    allowed = {
        "log": (0 < typical.value < math.inf, "more than 0 on the log scale"),
        "logit": (low < typical.value < high, f"between {low:g} and {high:g}"),
        "identity": (math.isfinite(typical.value), "a finite number"),
    }
    if scale not in allowed:
        raise PkpdError(where=where, what=f"scale {scale!r}", allowed=", ".join(allowed))
    good, words = allowed[scale]
    if not good:
        raise PkpdError(where=where, what=f"value {typical.value:g}", allowed=words)
    spreads = {}
    for word, given in (("iiv", iiv), ("iov", iov)):
        spreads[word] = None if given is None else estimate(given)
        if given is not None and not 0 < spreads[word].value < math.inf:
            raise PkpdError(
                where=where,
                what=f"{word} = {spreads[word].value:g}",
                allowed="a standard deviation above 0",
                remedy=f"leave {word} out for no variability",
            )
    if boxcox is not None and iiv is None:
        raise PkpdError(where=where, what="boxcox without iiv", remedy="give iiv")
    if centring is not None and not 0 <= centring <= 1:
        raise PkpdError(where=where, what=f"centring {centring}", allowed="0 to 1")
    return IndividualParameter(
        name,
        typical,
        spreads["iiv"],
        spreads["iov"],
        flattened(effects, where),
        scale,
        (float(low), float(high)),
        None if boxcox is None else estimate(boxcox),
        None,
        centring,
    )


def from_column(name: str, column: str) -> IndividualParameter:
    """Take an individual parameter from a covariate: known values such as individual clearances.

    Examples
    --------
    >>> from_column("CL", "CLI").column
    'CLI'
    """
    return IndividualParameter(name, Estimate(1.0, fixed=True), column=column)


def derived(name: str, function: Callable[..., Any]) -> IndividualParameter:
    """Derive an individual parameter from others; it is the same function in every patient.

    Parameters
    ----------
    name
        Name in the structural model.
    function
        Function of individual parameters in natural units, which it names as its arguments, written
        with `jax.numpy`. It may read parameters that the structural model lacks, such as a fraction
        or a ratio that is only used here; derived ones it may not.

    Examples
    --------
    What is not absorbed one way is absorbed the other, and one lag serves two compartments:

    >>> derived("F2", lambda F1: 1.0 - F1).reads
    ('F1',)
    >>> same_lag = derived("ALAG2", lambda ALAG1: ALAG1)
    """
    arguments = inspect.signature(function).parameters.values()
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    for argument in arguments:
        if argument.kind not in plain:
            raise PkpdError(
                where=f"derived parameter {name!r}",
                what=f"its function takes {argument}",
                allowed="arguments called like the parameters that it reads",
            )
    reads = tuple(argument.name for argument in arguments)
    return IndividualParameter(name, Estimate(1.0, fixed=True), function=function, reads=reads)


@dataclass(frozen=True)
class PopulationModel:
    """A structural model, the distribution of its parameters, and residual error.

    Parameters
    ----------
    structure
        Structural model.
    parameters
        One entry for each individual parameter of the structure, and for others that `derived`
        ones read.
    residual
        Residual error of each line that is observed.
    correlated
        Blocks of parameters whose ``eta`` are correlated: ``[("CL", "V")]``.
    lkj
        Concentration of the LKJ prior of each block's correlations; 1 is uniform.
    partial
        Canonical partial correlations to start from, by name: ``{"partial_CL_V": 0.5}``, in a block
        of two the correlation itself; ``fixed(0.5)`` holds one. 0 where left out.
    joint
        Prior of several parameters at once: of every method, of maximum likelihood, too.

    Examples
    --------
    >>> from pkpd.fitting.model.residual import additive
    >>> from pkpd.predict.pk import compartments
    >>> model = PopulationModel(
    ...     compartments(1),
    ...     [parameter("CL", 2.7, iiv=0.3), parameter("V", 32, iiv=0.2)],
    ...     {"concentration": additive(0.7)})
    >>> model.varying
    ('CL', 'V')
    """

    structure: Structure
    parameters: tuple[IndividualParameter, ...]
    residual: Mapping[str, ResidualError]
    correlated: tuple[tuple[str, ...], ...] = ()
    lkj: float = 2.0
    partial: Mapping[str, Estimate] = field(default_factory=dict)
    joint: JointPrior | None = None

    def __init__(
        self,
        structure: Structure,
        parameters: Sequence[IndividualParameter],
        residual: Mapping[str, ResidualError] | ResidualError,
        *,
        correlated: Sequence[Sequence[str]] = (),
        lkj: float = 2.0,
        partial: Mapping[str, float | Estimate] | None = None,
        joint: JointPrior | None = None,
    ) -> None:
        members = several(a(IndividualParameter), "a list of what parameter(...) gives")
        words = "a residual error of pkpd.models.residual, or one by line"
        errors = residual.values() if isinstance(residual, Mapping) else [residual]
        check_arguments(
            "PopulationModel",
            structure=(structure, Kind("a structural model", lambda s: hasattr(s, "parameters"))),
            parameters=(parameters, members),
            residual=(residual, Kind(words, lambda _: all(map(a(ResidualError).holds, errors)))),
            correlated=(correlated, several(NAMES, 'a list of blocks of names, [("CL", "V")]')),
            lkj=(lkj, Kind("a number above 0", lambda v: NUMBER.holds(v) and v > 0)),
        )
        if isinstance(residual, ResidualError):
            if len(structure.lines) != 1:
                raise PkpdError(
                    where="residual error",
                    what=f"one is given for {len(structure.lines)} lines",
                    allowed=", ".join(structure.lines),
                    remedy="give a mapping from each observed line to its residual error",
                )
            residual = dict.fromkeys(structure.lines, residual)
        by_name = {p.name: p for p in parameters}
        _check_names(structure, parameters, residual)
        blocks = tuple(tuple(block) for block in correlated)
        check_blocks(blocks, [p.name for p in parameters if p.iiv is not None])
        set_ = object.__setattr__
        set_(self, "structure", structure)
        order = dict.fromkeys((*structure.parameters, *by_name))
        set_(self, "parameters", tuple(by_name[name] for name in order))
        set_(self, "residual", dict(residual))
        set_(self, "correlated", blocks)
        set_(self, "lkj", float(lkj))
        set_(self, "partial", checked_partial(blocks, partial or {}))
        set_(self, "joint", joint)
        if joint is not None:
            own: dict[str, Estimate] = {}
            self.replace(joint=None).with_estimates(own.setdefault)
            check_joint(joint, {name: one.prior is not None for name, one in own.items()})

    def __repr__(self) -> str:
        """Tell what it is in a line."""
        lines = ", ".join(self.residual)
        return (
            f"PopulationModel({type(self.structure).__name__} of "
            f"{', '.join(p.name for p in self.parameters)}; "
            f"iiv of {', '.join(self.varying) or 'none'}; residual error of {lines})"
        )

    @property
    def varying(self) -> tuple[str, ...]:
        """Parameters that differ between patients; the order of ``eta``."""
        blocked = [name for block in self.correlated for name in block]
        free = [p.name for p in self.parameters if p.iiv is not None and p.name not in blocked]
        return (*blocked, *free)

    @property
    def occasional(self) -> tuple[str, ...]:
        """Parameters that differ between occasions; the order of ``kappa``."""
        return tuple(p.name for p in self.parameters if p.iov is not None)

    def __getitem__(self, name: str) -> IndividualParameter:
        """Return the individual parameter of this name."""
        for p in self.parameters:
            if p.name == name:
                return p
        raise PkpdError(
            where="population model",
            what=f"has no parameter {name!r}",
            allowed=", ".join(p.name for p in self.parameters),
        )

    def with_values(self, values: Mapping[str, float]) -> PopulationModel:
        """Return the model with other starting values, by name of population parameter.

        Raises
        ------
        PkpdError
            If a name is not one of the model's, or its value is none that it can have.
        """
        known: list[str] = []
        ends = {p.name: p.ends for p in self.parameters}
        spreads = [n for line, error in self.residual.items() for n in error.estimates(line)]
        spreads += [f"{word}_{n}" for n in ends for word in ("omega", "omega_occasion")]
        ends |= dict.fromkeys(spreads, (0.0, math.inf))

        def new(name: str, old: Estimate) -> Estimate:
            known.append(name)
            own = ends.get(name, (-math.inf, math.inf))
            spread = name in spreads and not name.startswith(("nu_", "tau"))
            return old.starting_at(name, values[name], own, spread) if name in values else old

        made = self.with_estimates(new)
        for name in values:
            if name not in known:
                raise PkpdError(
                    where=f"population parameter {name!r}",
                    what=f"is not one of the model's{nearest_of(name, known)}",
                    allowed=", ".join(known),
                )
        return made

    def with_estimates(self, new: Callable[[str, Estimate], Estimate]) -> PopulationModel:
        """Return the model with every population parameter replaced.

        Parameters
        ----------
        new
            From a parameter's name and what it was to what it becomes.
        """

        def optional(name: str, old: Estimate | None) -> Estimate | None:
            return None if old is None else new(name, old)

        parameters = [
            replace(
                p,
                typical=new(p.name, p.typical) if p.has_typical else p.typical,
                iiv=optional(f"omega_{p.name}", p.iiv),
                iov=optional(f"omega_occasion_{p.name}", p.iov),
                boxcox=optional(f"boxcox_{p.name}", p.boxcox),
                effects=tuple(
                    replace(e, coefficient=new(e.name(p.name), e.coefficient)) for e in p.effects
                ),
            )
            for p in self.parameters
        ]
        residual = {}
        for line, error in self.residual.items():
            named = [new(name, one) for name, one in error.estimates(line).items()]
            residual[line] = error.with_estimates(named)
        partial = {name: new(name, one) for name, one in self.partial.items()}
        return self.replace(parameters=parameters, residual=residual, partial=partial)

    def replace(self, **changes: Any) -> PopulationModel:
        """Return the model with other parts: ``structure``, ``parameters``, ``residual``, ..."""
        parts = {
            "structure": self.structure,
            "parameters": self.parameters,
            "residual": self.residual,
            "correlated": self.correlated,
            "lkj": self.lkj,
            "joint": self.joint,
        } | changes
        names = partial_names(parts["correlated"])
        kept = {name: one for name, one in self.partial.items() if name in names}
        return PopulationModel(
            parts["structure"],
            parts["parameters"],
            parts["residual"],
            correlated=parts["correlated"],
            lkj=parts["lkj"],
            partial=changes.get("partial", kept),
            joint=parts["joint"],
        )

    def changed(self, name: str, **changes: Any) -> PopulationModel:
        """Return the model with attributes of one individual parameter replaced."""
        one = replace(self[name], **changes)
        return self.replace(parameters=[one if p.name == name else p for p in self.parameters])


def _check_names(
    structure: Structure,
    parameters: Sequence[IndividualParameter],
    residual: Mapping[str, ResidualError],
) -> None:
    check_coefficients({p.name: p.effects for p in parameters})
    names = [p.name for p in parameters]
    plain = [p.name for p in parameters if p.function is None]
    for p in parameters:
        for name in p.reads:
            if name not in plain:
                raise PkpdError(
                    where=f"derived parameter {p.name!r}",
                    what=f"reads {name!r}, which is no parameter"
                    + (" that is not derived itself" if name in names else " of the model"),
                    allowed=", ".join(plain),
                )
    read = {name for p in parameters for name in p.reads}
    scales = {error.scale: line for line, error in residual.items() if error.scale is not None}
    for name, line in scales.items():
        if name not in names:
            raise PkpdError(
                where=f"residual error of {line!r}",
                what=f"its scale {name!r} is no parameter of the model",
                remedy=f'give parameter("{name}", fixed(1.0), iiv=0.3)',
            )
    read |= set(scales)
    own = structure.parameters
    unknown = [n for n in names if n not in own and n not in read]
    missing = [n for n in own if n not in names]
    twice = dict.fromkeys(n for n in names if names.count(n) > 1)
    # a misspelt one is unknown, and missing
    told = [f"{n!r}{nearest_of(n, missing)}" for n in unknown]
    rest = [n for n in missing if not any(f"did you mean {n!r}" in text for text in told)]
    wrong = [
        f"{', '.join(found)} {'is' if len(found) == 1 else 'are'} {what}"
        for found, what in (
            ([repr(n) for n in twice], "given twice"),
            (
                told,
                f"not {'a parameter' if len(told) == 1 else 'parameters'} of the structural model",
            ),
            ([repr(n) for n in rest], "missing"),
        )
        if found
    ]
    if wrong:
        raise PkpdError(
            where="population model",
            what=", and ".join(wrong),
            allowed=", ".join(structure.parameters),
        )
    for line in residual:
        if line not in structure.lines:
            raise PkpdError(
                where=f"residual error of {line!r}",
                what="the structural model has no such line",
                allowed=", ".join(structure.lines),
            )
